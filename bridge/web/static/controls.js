// One control per row of the parameter table. Each has `root` (its element) and `show(value, seconds)`; `move(value)` is
// called when a person moves it. While a hand is on a control, moves from elsewhere wait until it lets go.

import { el } from "./el.js";
import { promptBox } from "./prompt.js";
import { drags } from "./touch.js";

const RELEASE_MS = 300;
const FINE = 1000;

const title = (row) => row.name.replaceAll("_", " ");
const range = (row) => [row.low, row.high, row.curve === "log" && row.low > 0 ? "log" : row.curve];

/** Where a control stands at a value, 0 to 1, along its curve; as bridge/ramp.py does. */
export function travel(row, value) {
  const [low, high, curve] = range(row);
  if (curve === "log") return Math.log(value / low) / Math.log(high / low);
  const part = (value - low) / (high - low);
  return curve === "square" ? Math.sqrt(Math.max(0, part)) : part;
}

/** The inverse of `travel`, rounded to what a person can tell apart. */
export function valueAt(row, position) {
  const [low, high, curve] = range(row);
  if (curve === "log") return tidy(row, low * (high / low) ** position);
  return tidy(row, low + (high - low) * (curve === "square" ? position * position : position));
}

function tidy(row, value) {
  const bounded = Math.min(row.high, Math.max(row.low, value));
  if (row.type === "int") return Math.round(bounded / row.step) * row.step;
  return Number(bounded.toFixed(row.high - row.low <= 2 ? 3 : 2));
}

/** Keeps moves from elsewhere away while a hand is on the control, and catches up when it lets go. */
class Hold {
  constructor(node, show) {
    this.held = false;
    this.missed = null;
    this.show = show;
    node.addEventListener("pointerdown", () => this.take());
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) node.addEventListener(kind, () => this.release());
  }

  take() {
    clearTimeout(this.timer);
    this.held = true;
  }

  release() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.held = false;
      if (this.missed) this.show(...this.missed);
      this.missed = null;
    }, RELEASE_MS);
  }

  /** Whether the control must leave this value for later. */
  keep(value, seconds) {
    if (this.held) this.missed = [value, seconds];
    return this.held;
  }
}

function frame(row, ...children) {
  const name = el("span", { className: "name", textContent: title(row) });
  return el("div", { className: `control ${row.type}`, title: row.doc, "data-name": row.name }, name, ...children);
}

function slider(row, move, slow) {
  const whole = row.type === "int";
  const knob = el("input", { type: "range", min: 0, max: FINE, step: "any", "aria-label": title(row) });
  if (whole) Object.assign(knob, { min: row.low, max: row.high, step: row.step });
  const box = el("input", { type: "number", min: row.low, max: row.high, step: whole ? row.step : "any", "aria-label": `${title(row)}, as a number` });
  const ghost = el("i", { className: "ghost", hidden: true });
  const unit = row.unit ? [el("small", { textContent: row.unit })] : [];
  const root = frame(row, el("span", { className: "track" }, knob, ghost), el("span", { className: "value" }, box, ...unit));
  let current = row.default;
  let glide = null;

  const place = (value) => (whole ? value : travel(row, value) * FINE);
  const read = () => tidy(row, whole ? Number(knob.value) : valueAt(row, knob.value / FINE));
  const draw = (value) => {
    knob.value = place(value);
    knob.style.setProperty("--fill", travel(row, value));
    knob.setAttribute("aria-valuetext", `${value}${row.unit && ` ${row.unit}`}`);
    if (document.activeElement !== box) box.value = value;
  };
  const follow = (from, to, seconds) => {
    cancelAnimationFrame(glide);
    ghost.hidden = !seconds;
    if (!seconds) return;
    const start = performance.now();
    const step = () => {
      const part = (performance.now() - start) / (seconds * 1000);
      ghost.style.setProperty("--at", from + (to - from) * Math.min(1, part));
      ghost.hidden = part >= 1;
      if (part < 1) glide = requestAnimationFrame(step);
    };
    step();
  };
  const show = (value, seconds = 0) => {
    if (hold.keep(value, seconds)) return;
    follow(travel(row, current), travel(row, value), seconds);
    current = value;
    draw(value);
  };
  const track = root.querySelector(".track");
  const hold = new Hold(track, show);
  const go = (value) => {
    draw(value);
    move(value);
  };
  // With a move time a drag says where to go when it ends: every pixel of it would start the move anew.
  knob.addEventListener("input", () => (slow() && row.ramps ? draw(read()) : go(read())));
  knob.addEventListener("change", () => go(read()));
  drags(track, {
    start: () => travel(row, read()),
    drag: (position) => (slow() && row.ramps ? draw(valueAt(row, position)) : go(valueAt(row, position))),
    end: () => go(read()),
  });
  knob.addEventListener("dblclick", () => go(row.default));
  root.querySelector(".name").addEventListener("dblclick", () => go(row.default));
  knob.addEventListener("keydown", (event) => {
    const sign = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!sign || whole) return;
    event.preventDefault();
    go(valueAt(row, Math.min(1, Math.max(0, knob.value / FINE + sign * (event.shiftKey ? 0.001 : 0.01)))));
  });
  box.addEventListener("change", () => Number.isFinite(box.valueAsNumber) && go(tidy(row, box.valueAsNumber)));
  box.addEventListener("blur", () => draw(current));
  show(row.default);
  return { root, show };
}

function number(row, move) {
  const box = el("input", { type: "number", min: row.low, max: row.high, step: row.step, "aria-label": title(row), inputMode: "numeric" });
  const dice = el("button", { type: "button", className: "dice", textContent: "⚄", title: "another one, by chance", "aria-label": `${title(row)} by chance` });
  const go = (value) => {
    box.value = value;
    move(value);
  };
  box.addEventListener("change", () => Number.isFinite(box.valueAsNumber) && go(tidy(row, box.valueAsNumber)));
  dice.addEventListener("click", () => go(row.low + Math.floor(Math.random() * Math.min(row.high - row.low, 999999))));
  return { root: frame(row, el("span", { className: "value wide" }, box, dice)), show: (value) => document.activeElement !== box && (box.value = value) };
}

function flag(row, move) {
  const button = el("button", { type: "button", role: "switch", className: "switch", textContent: title(row), title: row.doc, "data-name": row.name });
  const show = (value) => button.setAttribute("aria-checked", String(Boolean(value)));
  button.addEventListener("click", () => {
    const value = button.getAttribute("aria-checked") !== "true";
    show(value);
    move(value);
  });
  show(row.default);
  return { root: button, show };
}

function radios(row, move) {
  const group = el("span", { className: "radios", role: "radiogroup", "aria-label": title(row) });
  for (const { id, title: text } of row.choices) {
    const input = el("input", { type: "radio", name: `choice-${row.name}`, value: id });
    input.addEventListener("change", () => move(id));
    group.append(el("label", {}, input, el("span", { textContent: text })));
  }
  const show = (value) => group.querySelectorAll("input").forEach((input) => (input.checked = input.value === value));
  show(row.default);
  return { root: frame(row, group), show };
}

function menu(row, move) {
  const select = el("select", { "aria-label": title(row) });
  for (const { id, title: text } of row.choices) select.append(el("option", { value: id, textContent: text }));
  select.addEventListener("change", () => move(select.value));
  const show = (value) => {
    if (![...select.options].some((option) => option.value === value)) select.append(el("option", { value, textContent: value }));
    select.value = value;
  };
  show(row.default);
  return { root: frame(row, select), show };
}

/** `move(value)` tells the bridge; `slow()` says whether moves take time. */
export function makeControl(row, move, slow) {
  if (row.type === "bool") return flag(row, move);
  if (row.type === "text") return promptBox(row, frame, move);
  if (row.type === "choice") {
    // What fits into one line of the narrowest window; the rest opens as a menu.
    const side = row.choices.length <= 5 && row.choices.map((choice) => choice.title).join("").length <= 28 && row.name !== "model";
    return side ? radios(row, move) : menu(row, move);
  }
  return row.type === "int" && (row.high - row.low) / row.step > 64 ? number(row, move) : slider(row, move, slow);
}
