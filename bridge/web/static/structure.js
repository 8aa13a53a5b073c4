// Model, size, networks: changes that are built beside the running show. They are collected here and applied together.

import { makeControl } from "./controls.js";
import { el } from "./el.js";

export class Structure {
  /** `apply(values)` sends all changes at once; false if the link is down. */
  constructor(apply) {
    this.values = {};
    this.staged = {};
    this.controls = new Map();
    this.wanted = "";
    this.note = el("span", { className: "note", role: "status" });
    this.button = el("button", { type: "button", className: "apply", textContent: "apply", disabled: true });
    this.undo = el("button", { type: "button", className: "quiet", textContent: "undo", hidden: true });
    this.footer = el("div", { className: "footer" }, this.note, this.undo, this.button);
    this.button.addEventListener("click", () => {
      if (!apply({ ...this.staged })) return;
      Object.assign(this.values, this.staged);
      this.staged = {};
      this.wanted = this.describe();
      this.refresh();
    });
    this.undo.addEventListener("click", () => {
      this.staged = {};
      for (const [name, control] of this.controls) control.show(this.values[name]);
      this.refresh();
    });
  }

  control(row) {
    const control = makeControl(row, (value) => this.stage(row.name, value), () => false);
    this.controls.set(row.name, control);
    this.values[row.name] = row.default;
    const show = (value) => {
      this.values[row.name] = value;
      if (!(row.name in this.staged)) control.show(value);
      this.refresh();
    };
    return { root: control.root, show };
  }

  stage(name, value) {
    if (value === this.values[name]) delete this.staged[name];
    else this.staged[name] = value;
    this.refresh();
  }

  describe() {
    return `${this.values.model} ${this.values.width}x${this.values.height}`;
  }

  /** What the worker paints with now: `<model id> <width>x<height>`; undefined before the first has said so. */
  running(model) {
    if (!model) return;
    if (model === this.wanted || !/ \d+x\d+$/.test(model)) this.wanted = "";
    this.note.textContent = this.wanted ? "building beside the running one" : "";
  }

  refresh() {
    const count = Object.keys(this.staged).length;
    this.button.disabled = count === 0;
    this.button.textContent = count > 1 ? `apply ${count}` : "apply";
    this.undo.hidden = count === 0;
    for (const [name, control] of this.controls) control.root.classList.toggle("staged", name in this.staged);
  }
}
