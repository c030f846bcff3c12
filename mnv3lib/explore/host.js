// Runs widgets on a page without a kernel: finds the places they left, gives each a model that only the page knows,
// and calls the very same render() that a notebook calls. `widgets` is name -> {module, shared}.
function hostWidgets(widgets) {
  function makeModel(values) {
    const listeners = new Map();
    const fire = (event) => [...(listeners.get(event) ?? [])].forEach((callback) => callback());
    return {
      get: (name) => values[name],
      set(name, value) {
        if (Object.is(values[name], value)) return;
        values[name] = value;
        fire(`change:${name}`);
        fire("change");
      },
      on(events, callback) {
        for (const event of events.split(/\s+/)) {
          if (!listeners.has(event)) listeners.set(event, new Set());
          listeners.get(event).add(callback);
        }
      },
      off(events, callback) {
        for (const event of events.split(/\s+/)) listeners.get(event)?.delete(callback);
      },
      save_changes() {},
      send() {},
    };
  }

  function start() {
    for (const place of document.querySelectorAll("div.mnv3-widget[data-widget]")) {
      const widget = widgets[place.dataset.widget];
      if (!widget || place.hasAttribute("data-live")) continue;
      const el = document.createElement("div");
      try {
        const model = makeModel({ ...widget.shared, ...JSON.parse(place.dataset.state) });
        widget.module.render({ model, el });
      } catch (error) {
        console.error(error); // the table for readers without JavaScript stays
        continue;
      }
      place.replaceChildren(el);
      place.setAttribute("data-live", "");
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}
