// The explorer's front end. It looks numbers up in model.get("table") and draws them; the one line of arithmetic
// is in `cost` below. mnv3lib/explore/tables.py explains the table.

const CONTROLS = ["variant", "width_mult", "resolution", "reduced_tail", "dilated", "rounding"];

/** Rows and totals for one setting of the controls. */
function cost(table, state) {
  const variant = table.variants[state.variant];
  const stop = table.widths.indexOf(state.width_mult);
  const dilated = state.dilated ? 1 : 0;
  const settings = variant.settings[`${state.rounding}/${state.reduced_tail ? 1 : 0}/${dilated}`];
  const scale = state.resolution / 32;
  const at = (series) => table.series[series][stop];
  const grow = (number, kind) => (table.fixed.includes(kind) ? number : number * scale * scale);

  const rows = variant.features.map((feature, index) => {
    const [exp, out, parameters, ...numbers] = settings.columns[index].map(at);
    const parts = numbers.map((number, kind) => grow(number, feature.kinds[kind]));
    const side = feature.side[dilated] * (table.fixed.includes(feature.kinds[0]) ? 1 : scale);
    const macs = parts.reduce((sum, part) => sum + part, 0);
    return { feature, exp, out, parameters, parts, macs, side, dilated };
  });
  const total = (name) => rows.reduce((sum, row) => sum + row[name], 0);
  return {
    rows,
    parameters: total("parameters"),
    macs: total("macs"),
    bytes: 4 * at(settings.peak) * scale * scale,
    top1: published(variant, state),
  };
}

/** The published accuracy of a network, or nothing where nobody has published one. */
function published(variant, state) {
  const found = variant.top1.find(([width, side]) => width === state.width_mult && side === state.resolution);
  if (!found || state.reduced_tail || state.dilated) return null;
  const other = state.rounding !== "paper" && state.width_mult !== 1;
  return { percent: found[2], where: found[3], note: other ? "of the paper's rounding rule" : "" };
}

// --- writing numbers -------------------------------------------------------------------------------------------

const thousands = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
const millions = (number, digits) => (number / 1e6).toFixed(digits);
const factor = (number) => `×${number.toFixed(number < 0.0995 ? 3 : 2)}`;
const widthText = (width) => width.toFixed(2);
const percent = (share) => `${Math.min(100, 100 * share).toFixed(3)}%`;

// --- building the page -----------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const block = (name, ...children) => make("div", { class: `mnv3x-${name}` }, ...children);
const span = (name, ...children) => make("span", { class: `mnv3x-${name}` }, ...children);

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let serial = 0;

/** Native controls; each entry can be read back with show(value). */
function makeControls(table, shown, change) {
  const group = make("div", { class: "mnv3x-controls", role: "group", "aria-label": "Network" });
  const sliders = block("sliders"); // together: on a phone they stay in sight above the bars
  const show = {};

  function place(name, label, input, ...more) {
    input.id = `mnv3x-${++serial}`;
    input.dataset.control = name;
    const caption = make("label", { for: input.id, class: "mnv3x-label" }, label);
    const slides = input.type === "range";
    if (slides && !sliders.parentNode) group.append(sliders);
    const into = slides ? sliders : group;
    into.append(make("div", { class: `mnv3x-control mnv3x-control-${name}` }, caption, " ", ...more, input));
  }
  function select(name, label, options) {
    const choices = options.map(([value, text]) => make("option", { value }, text));
    const input = make("select", {}, ...choices);
    input.addEventListener("change", () => change(name, input.value));
    show[name] = (value) => (input.value = value);
    place(name, label, input);
  }
  function range(name, label, stops, reference, text, spoken) {
    const step = Math.round((stops[1] - stops[0]) * 1e6) / 1e6;
    const input = make("input", { type: "range", min: stops[0], max: stops[stops.length - 1], step });
    const value = make("output", { class: "mnv3x-value" });
    const share = (stop) => (stop - stops[0]) / (stops[stops.length - 1] - stops[0]);
    input.style.setProperty("--mnv3x-mark", share(reference)); // a notch where the reference is
    const nearest = (x) => stops.reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
    input.addEventListener("input", () => change(name, nearest(input.valueAsNumber)));
    show[name] = (stop) => {
      if (nearest(input.valueAsNumber) !== stop) input.value = stop;
      input.style.setProperty("--mnv3x-fill", share(stop));
      input.setAttribute("aria-valuetext", spoken(stop));
      write(value, text(stop));
    };
    place(name, label, input, value);
  }
  function checkbox(name, label) {
    const input = make("input", { type: "checkbox" });
    input.addEventListener("change", () => change(name, input.checked));
    show[name] = (value) => (input.checked = value);
    place(name, label, input);
  }

  const variants = Object.entries(table.variants).map(([name, variant]) => [name, variant.label]);
  const roundings = table.roundings.map((name) => [name, name === "paper" ? "paper (TF-slim)" : name]);
  const builders = {
    variant: () => select("variant", "Variant", variants),
    width_mult: () => range("width_mult", "Width", table.widths, table.reference[0], widthText, (w) => `width ${w}`),
    resolution: () =>
      range("resolution", "Resolution", table.resolutions, table.reference[1], (r) => `${r}\u202fpx`, (r) => `${r} pixels`),
    reduced_tail: () => checkbox("reduced_tail", "Reduced tail"),
    dilated: () => checkbox("dilated", "Dilated"),
    rounding: () => select("rounding", "Rounding rule", roundings),
  };
  CONTROLS.filter((name) => shown.includes(name)).forEach((name) => builders[name]());
  return { group, show: (state) => Object.keys(show).forEach((name) => show[name](state[name])) };
}

function makeTotals() {
  const list = block("totals");
  const update = {};
  for (const [name, label] of [
    ["parameters", "Parameters"],
    ["macs", "Multiply-adds"],
    ["bytes", "Peak activations"],
  ]) {
    const [main, exact, ratio] = [span("main"), span("exact"), span("ratio")];
    main.dataset.total = name;
    exact.dataset.exact = name;
    ratio.dataset.ratio = name;
    list.append(make("div", {}, span("label", label), main, exact, ratio));
    update[name] = (now, reference) => {
      const unit = name === "bytes" ? "MB" : "M";
      write(main, `${millions(now[name], name === "macs" ? 1 : 2)}\u202f${unit}`);
      write(exact, `${thousands(now[name])}${name === "bytes" ? "\u202fB, float32" : ""}`);
      write(ratio, `${factor(now[name] / reference[name])} of width 1.0 at 224`);
    };
  }
  const [main, exact, ratio] = [span("main"), span("exact"), span("ratio")];
  main.dataset.total = "top1";
  list.append(make("div", {}, span("label", "ImageNet top-1"), main, exact, ratio));
  update.top1 = ({ top1 }) => {
    write(main, top1 ? `${top1.percent.toFixed(1)}\u202f%` : "–");
    write(exact, top1 ? top1.where : "none published");
    write(ratio, top1 ? top1.note : "");
  };
  return { list, show: (now, reference) => Object.values(update).forEach((show) => show(now, reference)) };
}

/** A bar with the outline of the reference; parts are stacked. */
function makeBar(colours) {
  const parts = colours.map((colour) => make("i", { style: `background:${colour}` }));
  const ghost = make("i", { class: "mnv3x-ghost" });
  const track = span("track", span("fill", ...parts), ghost);
  const number = span("number");
  function show(values, reference, full, text) {
    values.forEach((value, index) => (parts[index].style.width = `${((100 * value) / full).toFixed(3)}%`));
    ghost.style.width = percent(reference / full);
    track.classList.toggle("mnv3x-none", reference === 0);
    track.classList.toggle("mnv3x-off", values.reduce((sum, value) => sum + value, 0) > full * 1.0001);
    write(number, text);
  }
  return { cells: [track, number], show };
}

function axis(full, unit, divide = 1) {
  const end = full / divide;
  return span("axis", span("tick", "0"), span("tick", `${end / 2}`), span("tick", `${end}${unit}`));
}

function makeBars(table, variant) {
  const { features, scales } = variant;
  const colour = (kind) => table.kinds[kind].colour;
  const head = features.length - 2;
  const channels = block("panel mnv3x-channels");
  const macs = block("panel mnv3x-macs");

  channels.append(
    block("heads", span("name"), span("head", "expanded to"), span("head", "output channels")),
    block("row mnv3x-axes", span("name"), axis(scales.exp, ""), span("number"), axis(scales.out, ""), span("number")),
  );
  macs.append(
    block("heads", span("name"), span("head", "multiply-adds, millions")),
    block("row mnv3x-axes", span("name"), axis(scales.macs, "", 1e6), span("number")),
  );
  const shows = features.map((feature, index) => {
    const own = index >= head;
    if (index === head) {
      const mark = span("name mnv3x-mark", "own scale");
      const ends = [axis(scales.head, ""), span("number"), axis(scales.head, ""), span("number")];
      channels.append(block("row mnv3x-axes mnv3x-own", mark, ...ends));
      macs.append(block("row mnv3x-axes mnv3x-own mnv3x-space"));
    }
    const inner = makeBar([colour(feature.kinds.length > 1 ? "expand" : feature.kinds[0])]);
    const outer = makeBar([colour(feature.kinds.length > 1 ? "project" : feature.kinds[0])]);
    const stack = makeBar(feature.kinds.map(colour));
    channels.append(block("row", span("name", feature.name), ...inner.cells, ...outer.cells));
    macs.append(block("row", span("name", feature.name), ...stack.cells));
    return (row, reference) => {
      inner.show([row.exp], reference.exp, own ? scales.head : scales.exp, row.exp ? `${row.exp}` : "");
      outer.show([row.out], reference.out, own ? scales.head : scales.out, `${row.out}`);
      stack.show(row.parts, reference.macs, scales.macs, millions(row.macs, 1));
    };
  });
  return { panels: [channels, macs], show: (now, then) => shows.forEach((f, i) => f(now.rows[i], then.rows[i])) };
}

function makeLegend(table) {
  const key = (colour, label) => make("li", {}, make("i", { style: `background:${colour}` }), label);
  const list = make("ul", { class: "mnv3x-legend" });
  for (const kind of ["expand", "depthwise", "se", "project"]) {
    list.append(key(table.kinds[kind].colour, table.kinds[kind].label));
  }
  list.append(key(table.kinds.stem.colour, "stem and last conv"), key(table.kinds.classifier.colour, "classifier"));
  list.append(make("li", {}, make("i", { class: "mnv3x-ghost" }), "width 1.0 at 224\u202fpx"));
  list.append(make("li", {}, make("i", { class: "mnv3x-beyond" }), "longer than the scale"));
  return list;
}

const COLUMNS = [
  ["layer", "Layer", (row) => row.feature.name],
  ["kernel", "k", (row) => `${row.feature.kernel}`],
  ["stride", "s", (row) => `${row.feature.stride[row.dilated]}`],
  ["rate", "d", (row) => `${row.feature.dilation[row.dilated]}`],
  ["exp", "Exp", (row) => (row.exp ? `${row.exp}` : "–")],
  ["out", "Out", (row) => `${row.out}`],
  ["se", "SE", (row) => (row.feature.se ? "✓" : "–")],
  ["nl", "NL", (row) => row.feature.activation],
  ["side", "Size", (row) => `${row.side}²`],
  ["parameters", "Para\u00admeters", (row) => thousands(row.parameters)],
  ["macs", "Multiply-adds", (row) => thousands(row.macs)],
];

function makeTable() {
  const header = COLUMNS.map(([key, label]) => make("th", { scope: "col", class: `mnv3x-c-${key}` }, label));
  const [body, foot] = [make("tbody"), make("tfoot")];
  const grid = make("table", {}, make("thead", {}, make("tr", {}, ...header)), body, foot);
  const note =
    "k: side of the kernel; s: stride; d: dilation, shown once there is any. Exp: channels of the depthwise convolution, " +
    "for the classifier those of its hidden layer. NL: RE is ReLU, HS is h-swish. Size: of the output's feature map.";
  const scroll = make("div", { class: "mnv3x-scroll", role: "region", "aria-label": "Layer by layer", tabindex: "0" }, grid);
  const details = make("details", {}, make("summary", {}, "Layer by layer"), scroll, make("p", { class: "mnv3x-note" }, note));
  let cells = [];
  scroll.addEventListener("scroll", () => markEdges(scroll), { passive: true });
  new ResizeObserver(() => markEdges(scroll)).observe(scroll);

  function show(now) {
    const rows = [...now.rows, { total: true, parameters: now.parameters, macs: now.macs }];
    grid.classList.toggle("mnv3x-undilated", now.rows.every((row) => row.feature.dilation[row.dilated] === 1));
    if (cells.length !== rows.length) {
      cells = rows.map(() => COLUMNS.map(([key], i) =>
        make(i ? "td" : "th", i ? { class: `mnv3x-c-${key}` } : { class: `mnv3x-c-${key}`, scope: "row" })));
      const lines = cells.map((line) => make("tr", {}, ...line));
      foot.replaceChildren(lines.pop());
      body.replaceChildren(...lines);
    }
    rows.forEach((row, i) => COLUMNS.forEach(([key, , text], j) => {
      const value = !row.total ? text(row) : key === "layer" ? "total" : key in row ? thousands(row[key]) : "";
      write(cells[i][j], value);
    }));
    markEdges(scroll);
  }
  return { details, show };
}

/** Say on a box that scrolls sideways whether there is more to its left or right: its style sheet fades that edge. */
function markEdges(box) {
  const [left, right] = [box.scrollLeft, box.scrollWidth - box.clientWidth - box.scrollLeft].map((more) => more > 1);
  box.toggleAttribute("data-more", left || right);
  box.style.setProperty("--mnv3x-left", left ? "1.5rem" : "0px");
  box.style.setProperty("--mnv3x-right", right ? "1.5rem" : "0px");
}

/** What the words on the controls mean, for those that are shown. */
function makeHelp(shown) {
  const words = {
    reduced_tail: "Reduced tail: the last stage and the classifier's hidden layer at half their width.",
    dilated: "Dilated: the last stage keeps the size of its feature map and looks twice as far instead.",
  };
  const peak = "Peak activations: the numbers alive at once in inference, four bytes each.";
  const lines = Object.keys(words).filter((name) => shown.includes(name)).map((name) => words[name]);
  return make("p", { class: "mnv3x-note" }, [...lines, peak].join(" "));
}

function pythonCall(state) {
  const options = [];
  if (state.width_mult !== 1) options.push(`width_mult=${state.width_mult}`);
  if (state.reduced_tail) options.push("reduced_tail=True");
  if (state.dilated) options.push("dilated=True");
  if (state.rounding !== "torchvision") options.push(`rounding="${state.rounding}"`);
  return `profile(${state.variant}(${options.join(", ")}), ${state.resolution})`;
}

function sentence(table, state, now) {
  const options = [
    state.reduced_tail && "reduced tail",
    state.dilated && "dilated",
    state.rounding !== "torchvision" && `${state.rounding} rounding rule`,
  ].filter(Boolean);
  const network = [`MobileNetV3 ${table.variants[state.variant].label}`, `width ${state.width_mult}`];
  const setting = [...network, `${state.resolution} pixels`, ...options].join(", ");
  const parameters = `${millions(now.parameters, 2)} million parameters`;
  const costs = `${parameters}, ${millions(now.macs, 1)} million multiply-adds, peak ${millions(now.bytes, 2)} megabytes`;
  const top1 = now.top1 ? `published top-1 ${[`${now.top1.percent} per cent`, now.top1.note].filter(Boolean).join(" ")}` : "";
  return `${[`${setting}: ${costs}`, top1].filter(Boolean).join(", ")}.`;
}

function render({ model, el }) {
  const table = model.get("table");
  const read = () => Object.fromEntries(CONTROLS.map((name) => [name, model.get(name)]));
  const root = make("div", { class: "mnv3x", "data-lm-suppress-shortcuts": "true" });
  // A notebook's own shortcuts must not see the arrow keys meant for a slider.
  root.addEventListener("keydown", (event) => event.stopPropagation());

  const controls = makeControls(table, model.get("controls"), (name, value) => {
    model.set(name, value);
    model.save_changes();
  });
  const totals = makeTotals();
  const chart = make("div", { class: "mnv3x-chart", role: "img" });
  const rows = makeTable();
  const call = make("code");
  const spoken = make("p", { class: "mnv3x-spoken", "aria-live": "polite" });
  const python = make("p", { class: "mnv3x-python" }, "In Python: ", call);
  const help = makeHelp(model.get("controls"));
  root.append(totals.list, chart, makeLegend(table), rows.details, help, python, spoken);
  if (controls.group.children.length) root.prepend(controls.group);

  let [bars, variant, timer, frame] = [null, null, 0, 0];

  function update() {
    frame = 0;
    const state = read();
    const now = cost(table, state);
    const plain = { reduced_tail: false, dilated: false, width_mult: table.reference[0], resolution: table.reference[1] };
    const reference = cost(table, { ...state, ...plain });
    if (variant !== state.variant) {
      variant = state.variant;
      bars = makeBars(table, table.variants[variant]);
      chart.replaceChildren(...bars.panels);
    }
    controls.show(state);
    totals.show(now, reference);
    bars.show(now, reference);
    if (rows.details.open) rows.show(now);
    write(call, pythonCall(state));
    const text = sentence(table, state, now);
    chart.setAttribute("aria-label", `Bars of channels and multiply-adds per layer. ${text}`);
    if (timer !== null) clearTimeout(timer);
    timer = setTimeout(() => write(spoken, text), 700); // said once, when the slider rests
  }
  const schedule = () => (frame ||= requestAnimationFrame(update));

  rows.details.addEventListener("toggle", () => rows.details.open && rows.show(cost(table, read())));
  const events = CONTROLS.map((name) => `change:${name}`).join(" ");
  model.on(events, schedule);
  update();
  el.append(root);
  return () => {
    model.off(events, schedule);
    clearTimeout(timer);
    cancelAnimationFrame(frame);
  };
}

export default { render };
