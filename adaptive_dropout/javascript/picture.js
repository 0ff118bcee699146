// Pictures in SVG and controls that a keyboard can move. Text and axes take the colour of the page around them, and the
// two curve colours can be read on light and on dark ground; dashes tell the curves apart without colour.

const STYLE = `
.ad-explorer { --ad-one: #1f83c4; --ad-two: #d4641c; color: var(--jp-content-font-color1, inherit); font-size: 0.9rem; line-height: 1.4; }
.ad-explorer * { box-sizing: border-box; }
.ad-controls, .ad-panels { display: grid; gap: 0.5rem 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
.ad-panels { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); margin-top: 0.6rem; }
.ad-controls label { display: grid; grid-template-columns: 1fr auto; align-items: baseline; row-gap: 0.35rem; }
.ad-controls label:has([type="text"]) { grid-column: 1 / -1; }
.ad-controls output { grid-area: 1 / 2; }
.ad-controls input, .ad-controls select { grid-area: 2 / 1 / auto / -1; width: 100%; margin: 0; min-height: 1.8rem; accent-color: var(--ad-one); font: inherit; }
.ad-controls input[type="text"], .ad-controls select { color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 4px; padding: 0 0.4rem; }
.ad-controls option { color: #111; background: #fff; }
.ad-controls :focus-visible { outline: 2px solid var(--ad-two); outline-offset: 2px; }
.ad-controls [hidden] { display: none; }
.ad-explorer svg { width: 100%; height: auto; display: block; }
.ad-explorer svg text { fill: currentColor; font-size: 11px; }
.ad-explorer .ad-axis { stroke: currentColor; stroke-opacity: 0.6; fill: none; }
.ad-explorer .ad-grid { stroke: currentColor; stroke-opacity: 0.12; }
.ad-explorer .ad-one { stroke: var(--ad-one); fill: none; stroke-width: 2; }
.ad-explorer .ad-two { stroke: var(--ad-two); fill: none; stroke-width: 2; stroke-dasharray: 6 4; }
.ad-explorer .ad-three { stroke: currentColor; fill: none; stroke-width: 1.5; stroke-dasharray: 2 3; }
.ad-explorer .ad-rings { stroke: currentColor; fill: none; stroke-width: 1.3; }
.ad-explorer .ad-squares { fill: var(--ad-one); stroke: none; }
.ad-words { margin: 0.6rem 0 0; min-height: 3em; overflow-wrap: anywhere; }
.ad-words[role="alert"] { border-left: 4px solid var(--ad-two); padding-left: 0.6rem; }
`;

/** An HTML element with properties and children. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** An SVG element with attributes and children. */
function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The next of the numbers ..., 0.5, 1, 2, 5, 10, ...: limits of axes that seldom change. */
function stepUp(value) {
  if (!(value > 0 && value < Infinity)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
}

/** About five round numbers between two ends. */
function ticks([low, high]) {
  const step = stepUp((high - low) / 5.5), found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

const WIDTH = 280, HEIGHT = 190, BOX = { left: 38, right: 272, top: 24, bottom: 156 };

/** Axes with curves: {title, xlabel, xlim, ylim, curves: [{x, y, style, label}]}; style one, two, three, rings, squares. */
function panel({ title, xlabel, xlim, ylim, curves }) {
  const across = (x) => BOX.left + ((x - xlim[0]) / (xlim[1] - xlim[0])) * (BOX.right - BOX.left);
  const up = (y) => BOX.bottom - ((y - ylim[0]) / (ylim[1] - ylim[0])) * (BOX.bottom - BOX.top);
  const clip = `ad-${Math.random().toString(36).slice(2)}`, room = { x: BOX.left, y: BOX.top - 1, width: BOX.right - BOX.left, height: BOX.bottom - BOX.top + 2 };
  const text = (x, y, anchor, words) => drawn("text", { x, y, "text-anchor": anchor }, words);
  const parts = [drawn("clipPath", { id: clip }, drawn("rect", room))];
  for (const x of ticks(xlim)) {
    parts.push(drawn("line", { class: "ad-grid", x1: across(x), x2: across(x), y1: BOX.top, y2: BOX.bottom }));
    parts.push(text(across(x), BOX.bottom + 14, "middle", String(x)));
  }
  for (const y of ticks(ylim)) {
    parts.push(drawn("line", { class: "ad-grid", x1: BOX.left, x2: BOX.right, y1: up(y), y2: up(y) }));
    parts.push(text(BOX.left - 4, up(y) + 4, "end", String(y)));
  }
  parts.push(drawn("path", { class: "ad-axis", d: `M${BOX.left} ${BOX.top}V${BOX.bottom}H${BOX.right}` }));
  for (const { x, y, style } of curves) {
    const clipped = style in MARKS ? {} : { "clip-path": `url(#${clip})` }; // a mark at the edge is shown whole
    parts.push(drawn("path", { class: `ad-${style}`, ...clipped, d: outline(x, y, style, across, up) }));
  }
  curves.filter((curve) => curve.label).forEach(({ label, style }, i) => {
    parts.push(drawn("path", { class: `ad-${style}`, d: `M${BOX.right - 34} ${BOX.top + 8 + 14 * i}h28` }));
    parts.push(text(BOX.right - 38, BOX.top + 12 + 14 * i, "end", label));
  });
  parts.push(text((BOX.left + BOX.right) / 2, 14, "middle", title), text((BOX.left + BOX.right) / 2, HEIGHT - 4, "middle", xlabel));
  return drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} against ${xlabel}` }, ...parts);
}

const MARKS = { rings: "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", squares: "m-3 -3h6v6h-6z" };

/** The outline of a curve or of a row of marks; infinite heights leave holes. */
function outline(x, y, style, across, up) {
  const marks = MARKS[style];
  let d = "", pen = "M";
  x.forEach((at, i) => {
    const height = Math.max(-1e4, Math.min(1e4, up(y[i])));
    if (!Number.isFinite(y[i])) pen = "M";
    else if (marks) d += `M${across(at).toFixed(2)} ${height.toFixed(2)}${marks}`;
    else {
      d += `${pen}${across(at).toFixed(2)} ${height.toFixed(2)}`;
      pen = "L";
    }
  });
  return d;
}

/** A slider for a number of the model; spec is {label, min, max, step, log}: log gives powers of ten. */
function slider(model, name, spec) {
  const to = spec.log ? Math.log10 : (x) => x, from = spec.log ? (x) => Number((10 ** x).toPrecision(4)) : (x) => x;
  const input = element("input", { type: "range" }), shown = element("output"), words = element("span");
  const label = element("label", {}, words, input, shown); // a label names the first control in it, and output is one
  const show = () => {
    words.textContent = spec.label;
    Object.assign(input, { min: to(spec.min), max: to(spec.max), step: spec.log ? 0.02 : spec.step });
    input.value = to(model.get(name));
    shown.textContent = String(Number(Number(model.get(name)).toPrecision(4)));
    input.setAttribute("aria-valuetext", `${spec.label} ${shown.textContent}`);
  };
  input.dataset.name = name;
  input.addEventListener("input", () => {
    model.set(name, from(Number(input.value)));
    model.save_changes();
  });
  return { label, show, spec };
}

/** A list, or a line of text, for a text of the model. */
function choice(model, name, title, options) {
  const input = options ? element("select", {}, ...options.map((text) => element("option", { value: text }, text))) : element("input", { type: "text", spellcheck: false });
  input.dataset.name = name;
  input.addEventListener("change", () => {
    model.set(name, input.value);
    model.save_changes();
  });
  return { label: element("label", {}, element("span", {}, title), input), show: () => (input.value = model.get(name)) };
}

/** Put controls, words and panels into el, and draw again whenever the model changes. */
function mount(model, el, names, controls, draw) {
  const panels = element("div", { className: "ad-panels" }), words = element("p", { className: "ad-words" });
  const row = element("div", { className: "ad-controls" }, ...controls.map((control) => control.label));
  el.append(element("div", { className: "ad-explorer" }, element("style", {}, STYLE), row, words, panels));
  const update = () => {
    controls.forEach((control) => control.show());
    try {
      const frame = draw();
      panels.replaceChildren(...frame.panels.map(panel));
      words.setAttribute("role", "status");
      words.textContent = frame.words;
    } catch (error) {
      words.setAttribute("role", "alert");
      words.textContent = `Not drawn: ${error.message}. The pictures are the last good ones.`;
    }
  };
  names.forEach((name) => model.on(`change:${name}`, update));
  update();
}
