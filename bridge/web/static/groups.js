// Rows under their headings. What one plays with is open; the rest is one line until it is wanted, and says when something
// in it is not as it came, so that nothing that acts on the picture is out of sight.

import { el } from "./el.js";
import { kept, keep } from "./kept.js";

const OPEN = new Set(["image", "noise", "model"]);
export class Groups {
  /** `panel`: the element that the groups go into. */
  constructor(panel) {
    this.panel = panel;
    this.groups = new Map();
    this.home = new Map(); // row's name → its group and default
  }

  clear() {
    this.groups.clear();
    this.home.clear();
    this.panel.replaceChildren();
  }

  /** The element that rows of this group go into. */
  place(name) {
    if (!this.groups.has(name)) this.groups.set(name, this.make(name));
    return this.groups.get(name).body;
  }

  make(name) {
    const count = el("small", { className: "moved" });
    const body = el("div", { className: "rows" });
    const root = el("details", { className: "group", "data-group": name }, el("summary", {}, name, count), body);
    root.open = kept("groups", {})[name] ?? OPEN.has(name);
    root.addEventListener("toggle", () => {
      if (root.open !== (kept("groups", {})[name] ?? OPEN.has(name))) keep("groups", { ...kept("groups", {}), [name]: root.open });
    });
    this.panel.append(root);
    return { body, count, moved: new Set() };
  }

  add(row, root) {
    const body = this.place(row.group);
    body.append(root);
    this.home.set(row.name, { group: this.groups.get(row.group), row });
    return body;
  }

  /** A row's value, as it is now: its heading counts those that are not the default. */
  note(name, value) {
    const home = this.home.get(name);
    if (!home) return;
    const { group, row } = home;
    if (value === row.default) group.moved.delete(name);
    else group.moved.add(name);
    group.count.textContent = group.moved.size || "";
    group.count.title = group.moved.size ? `${group.moved.size} not as they came: ${[...group.moved].join(", ")}` : "";
  }
}
