// A figure with sliders. Every position was drawn by Python beforehand; here the one the sliders stand at is shown.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

let serial = 0;

/** Index of the frame at a position: the last control turns fastest. */
function frameIndex(controls, position) {
  return controls.reduce((index, control, place) => index * control.stops.length + position[place], 0);
}

function render({ model, el }) {
  const controls = model.get("controls");
  const frames = model.get("frames");
  const root = make("div", { class: "mnv3x mnv3x-flipbook", "data-lm-suppress-shortcuts": "true" });
  // A notebook's own shortcuts must not see the arrow keys meant for a slider.
  root.addEventListener("keydown", (event) => event.stopPropagation());
  const group = make("div", { class: "mnv3x-controls", role: "group", "aria-label": "Figure" });
  const picture = make("div", { class: "mnv3x-picture" });
  const spoken = make("p", { class: "mnv3x-spoken", "aria-live": "polite" });

  const inputs = controls.map((control, place) => {
    const last = control.stops.length - 1;
    const input = make("input", { type: "range", min: 0, max: last, step: 1, id: `mnv3f-${++serial}` });
    input.dataset.control = control.name;
    const value = make("output", { class: "mnv3x-value" });
    const caption = make("label", { for: input.id, class: "mnv3x-label" }, control.label);
    group.append(make("div", { class: "mnv3x-control" }, caption, " ", value, input));
    input.addEventListener("input", () => {
      const position = [...model.get("position")];
      position[place] = input.valueAsNumber;
      model.set("position", position);
      model.save_changes();
    });
    return { input, value, stops: control.stops };
  });

  let [frame, timer] = [0, 0];
  function update() {
    frame = 0;
    const position = model.get("position");
    inputs.forEach(({ input, value, stops }, place) => {
      if (input.valueAsNumber !== position[place]) input.value = position[place];
      input.style.setProperty("--mnv3x-fill", position[place] / Math.max(1, stops.length - 1));
      input.setAttribute("aria-valuetext", stops[position[place]]);
      value.textContent = stops[position[place]];
    });
    picture.innerHTML = frames[frameIndex(controls, position)];
    clearTimeout(timer);
    const drawn = picture.querySelector("[aria-label]");
    timer = setTimeout(() => (spoken.textContent = drawn ? drawn.getAttribute("aria-label") : ""), 700);
  }
  const schedule = () => (frame ||= requestAnimationFrame(update));

  root.append(group, picture, spoken);
  model.on("change:position", schedule);
  update();
  el.append(root);
  return () => {
    model.off("change:position", schedule);
    clearTimeout(timer);
    cancelAnimationFrame(frame);
  };
}

export default { render };
