// Looks as pictures of themselves: a tap goes there in the chosen time, along the chosen curve, now or on the beat.

import { el } from "./el.js";
import { kept, keep } from "./kept.js";

const SURE_MS = 3000;
const CURVES = ["linear", "ease", "in", "out"];
const WAITS = { now: "", beat: "beat", bar: "bar" };

export class Looks {
  /** `say(address, ...args)` does what that OSC address does; `enlist(name)` makes a look a cue. */
  constructor(root, say, enlist) {
    Object.assign(this, { say, enlist });
    this.looks = [];
    this.now = "";
    this.grid = el("div", { className: "grid" });
    this.seconds = el("input", { type: "number", id: "look-seconds", min: 0, max: 3600, step: "any", value: kept("look.seconds", 2), inputMode: "decimal" });
    this.curve = menu("look-curve", "curve", CURVES, kept("look.curve", "ease"));
    this.wait = menu("look-wait", "begin", Object.keys(WAITS), kept("look.wait", "now"));
    for (const [name, box] of [["seconds", this.seconds], ["curve", this.curve], ["wait", this.wait]])
      box.addEventListener("change", () => keep(`look.${name}`, box.value));
    this.edit = el("button", { type: "button", className: "quiet", id: "look-edit", textContent: "edit", "aria-pressed": "false" });
    this.edit.addEventListener("click", () => this.editing(this.edit.getAttribute("aria-pressed") !== "true"));
    this.keep = el("button", { type: "button", id: "look-save", textContent: "save", title: "Keep what is running as a look (S)" });
    this.keep.addEventListener("click", () => this.asking());
    this.sheet = this.saver();
    // One row of them on a screen: a wheel that only turns up and down still reaches the last.
    this.grid.addEventListener("wheel", (event) => (this.grid.scrollLeft += event.deltaY), { passive: true });
    root.append(
      el("div", { className: "head" },
        el("h2", { textContent: "looks" }),
        el("span", { className: "manner" },
          el("label", {}, el("span", { className: "word", textContent: "in " }), this.seconds, " s"), this.curve, this.wait),
        this.edit, this.keep),
      this.grid);
  }

  /** Asks for a name over whatever is in sight, so that a look can be saved from everywhere. */
  saver() {
    this.name = el("input", { type: "text", id: "look-name", maxLength: 40, autocomplete: "off", spellcheck: false, enterKeyHint: "done", "aria-label": "Name of the look", placeholder: "name" });
    const cancel = el("button", { type: "button", className: "quiet", textContent: "cancel" });
    const form = el("form", { className: "saver" }, this.name, el("button", { className: "primary", textContent: "save" }), cancel);
    const sheet = el("dialog", { id: "look-saver", "aria-label": "Save a look" }, el("h2", { textContent: "keep what is running as a look" }), form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const name = tame(this.name.value);
      if (!name) return this.name.focus();
      this.say("look/save", name);
      sheet.close();
    });
    cancel.addEventListener("click", () => sheet.close());
    document.body.append(sheet);
    return sheet;
  }

  /** Ask for a name. What is running may have been recalled: then saving again means that look. */
  asking() {
    if (this.sheet.open) return;
    this.name.value = this.own(this.now) ? this.now : this.unused();
    this.sheet.showModal();
    this.name.select();
  }

  own(name) {
    return this.looks.some((look) => look.own && look.name === name);
  }

  unused() {
    for (let number = 1; ; number++) if (!this.looks.some((look) => look.name === `look ${number}`)) return `look ${number}`;
  }

  editing(on) {
    this.edit.setAttribute("aria-pressed", String(on));
    this.edit.textContent = on ? "done" : "edit";
    this.grid.classList.toggle("editing", on);
  }

  show(looks) {
    this.looks = looks;
    this.grid.replaceChildren(...looks.map((look, i) => this.card(look, i)));
    this.mark(this.now);
  }

  card(look, index) {
    const face = look.picture ? el("img", { src: `look.jpg?name=${encodeURIComponent(look.name)}&at=${look.picture}`, alt: "", decoding: "async", draggable: false }) : faceless(look.name);
    const key = index < 9 ? [el("kbd", { textContent: index + 1, "aria-hidden": "true" })] : [];
    const button = el("button", { type: "button", className: "look", "data-look": look.name, title: look.name }, face, ...key, el("span", { className: "title", textContent: look.name }));
    button.addEventListener("click", () => this.recall(look.name));
    const cue = el("button", { type: "button", className: "enlist", textContent: "+ cue", "aria-label": `Add ${look.name} to the cue list` });
    cue.addEventListener("click", () => this.enlist(look.name));
    return el("div", { className: "card" }, button, ...(look.own ? [this.remover(look.name)] : []), cue);
  }

  remover(name) {
    const button = el("button", { type: "button", className: "remove", textContent: "×", "aria-label": `Delete ${name}` });
    button.addEventListener("click", () => {
      if (button.dataset.sure) return this.say("look/delete", name);
      button.dataset.sure = "yes";
      button.textContent = "delete?";
      setTimeout(() => {
        delete button.dataset.sure;
        button.textContent = "×";
      }, SURE_MS);
    });
    return button;
  }

  recall(name) {
    this.say(...this.way(name));
  }

  /** What a tap on this look says, as the boxes are now. */
  way(name) {
    const wait = WAITS[this.wait.value];
    return ["look/recall", name, this.time, this.curve.value, ...(wait ? [wait] : [])];
  }

  /** How long a move to a look takes. */
  get time() {
    return Math.max(0, Math.min(3600, this.seconds.valueAsNumber || 0));
  }

  /** The look on this key, counted from 0. */
  press(index) {
    if (this.looks[index]) this.recall(this.looks[index].name);
  }

  /** Which one was recalled last. */
  mark(name) {
    this.now = name;
    for (const button of this.grid.querySelectorAll("[data-look]")) {
      if (button.dataset.look === name) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }
}

/** A look that was written by hand has no picture: a dim colour of its own, so that it is found again in the dark. */
function faceless(name) {
  const face = el("span", { className: "faceless", textContent: name.slice(0, 2) });
  face.style.setProperty("--hue", [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 0));
  return face;
}

export function menu(id, label, choices, value) {
  const select = el("select", { id, "aria-label": label });
  select.append(...choices.map((choice) => el("option", { value: choice, textContent: choice })));
  select.value = choices.includes(value) ? value : choices[0];
  return select;
}

/** What a file may be called on every system; the bridge checks it again. */
export function tame(name) {
  return name.normalize("NFKD").replace(/[^A-Za-z0-9 _-]+/g, "").replace(/^[ _-]+/, "").slice(0, 40).trim();
}
