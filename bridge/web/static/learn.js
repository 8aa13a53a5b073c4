// MIDI learn: touch what a knob or key is to move, then move that one. What is bound has a tag beside it, that unbinds.
// While this is on, a touch of such a thing only chooses it; the style sheet lets no hand through to what is inside.

import { el } from "./el.js";

const SURE_MS = 3000;

export class Learn {
  /** `say(address, ...args)` does what that OSC address does. `kinds`: pairs of a selector and what is to be bound to
   *  such an element, `[address, ...args]`, or nothing. */
  constructor(say, kinds) {
    Object.assign(this, { say, kinds, you: "", state: "", wiring: null, asked: false, last: "" });
    this.button = document.getElementById("learn");
    this.bar = document.getElementById("learning");
    this.words = this.bar.querySelector("[role=status]");
    this.button.addEventListener("click", () => this.toggle());
    this.bar.querySelector("button").addEventListener("click", () => this.leave());
    document.addEventListener("click", (event) => this.take(event), true);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.take(event);
      if (event.key === "Escape" && !document.querySelector("dialog[open], .theatre")) this.leave();
    }, true);
  }

  get on() {
    return document.body.classList.contains("learn");
  }

  /** A new greeting of the bridge: `you` is this page's name. Whether MIDI is on it says next, or not at all. */
  greet(you) {
    Object.assign(this, { you, wiring: null, asked: false });
    this.turn(false);
    this.button.hidden = true;
  }

  show(wiring) {
    const before = this.wiring;
    this.wiring = wiring;
    this.button.hidden = false;
    if (before?.learning && !wiring.learning) {
      const fresh = wiring.bound.find((one) => same(one, before.learning) && !before.bound.some((old) => same(old, one) && old.on === one.on));
      this.last = fresh ? `${titled(fresh)} is on ${short(fresh.on)}. ` : "";
    }
    this.draw();
  }

  /** What the bridge says of its ports. */
  told(state) {
    if (state === this.state) return;
    this.state = state;
    this.speak();
  }

  toggle() {
    if (this.on) this.leave();
    else if (this.wiring) this.turn(true);
  }

  leave() {
    if (!this.on) return;
    const { learning, by } = this.wiring;
    if (this.asked && (!learning || by === this.you)) this.say("midi/learn");
    this.turn(false);
  }

  turn(on) {
    Object.assign(this, { asked: false, last: "" });
    document.body.classList.toggle("learn", on);
    this.button.setAttribute("aria-pressed", String(on));
    this.bar.hidden = !on;
    this.draw();
  }

  take(event) {
    if (!this.on || event.target.closest(".bound")) return;
    const found = this.kinds.find(([selector]) => event.target.closest(selector));
    const wanted = found?.[1](event.target.closest(found[0]));
    if (!wanted) return;
    event.preventDefault();
    event.stopPropagation();
    const { learning } = this.wiring;
    this.asked = true;
    if (learning && matches(learning, wanted)) this.say("midi/learn");
    else this.say("midi/learn", ...wanted);
  }

  /** Mark what waits, and put the tags of what is bound beside it. */
  draw() {
    for (const old of document.querySelectorAll(".tags")) old.remove();
    for (const old of document.querySelectorAll(".waiting")) old.classList.remove("waiting");
    this.speak();
    if (!this.on) return;
    const { bound, learning } = this.wiring;
    for (const [selector, binds] of this.kinds)
      for (const node of document.querySelectorAll(selector)) {
        const wanted = binds(node);
        if (!wanted) continue;
        if (learning && matches(learning, wanted)) node.classList.add("waiting");
        const own = bound.filter((one) => matches(one, wanted));
        if (!own.length) continue;
        const tags = el("span", { className: "tags", "data-of": node.id }, ...own.map((one) => this.tag(one)));
        // Nothing can be inside a button.
        if (node.matches("button")) node.after(tags);
        else node.append(tags);
      }
  }

  tag(one) {
    const does = [one.to, ...one.args].join(" ");
    const button = el("button", { type: "button", className: "bound", textContent: `${short(one.on)} ×`, title: `${one.on}${one.port && ` of ${one.port}`}: ${does}`, "aria-label": `Unlearn ${one.on}, ${does}` });
    button.addEventListener("click", () => {
      if (button.dataset.sure) return this.say("midi/forget", one.to, ...one.args);
      button.dataset.sure = "yes";
      button.textContent = "unlearn?";
      setTimeout(() => {
        delete button.dataset.sure;
        button.textContent = `${short(one.on)} ×`;
      }, SURE_MS);
    });
    return button;
  }

  speak() {
    if (!this.on) return;
    const { learning } = this.wiring;
    const none = this.state === "nothing is plugged in" ? ` (${this.state})` : "";
    const words = learning ? `${titled(learning)}: move a knob or press a key` : `${this.last}Touch what a knob or key is to move`;
    this.words.textContent = words + none;
  }
}

/** A look is one thing, whatever its seconds; a parameter is one, whatever value a key sets. */
function matches(one, [to, ...args]) {
  return one.to === to && (to !== "look/recall" || one.args[0] === args[0]);
}

const same = (one, other) => one.to === other.to && JSON.stringify(one.args) === JSON.stringify(other.args);
const titled = ({ to, args }) => (to === "look/recall" ? `look ${args[0]}` : to.replaceAll(/[/_]/g, " "));

/** `ch 1 cc 21` is CC 21; only another channel than the first is worth the room. */
function short(on) {
  const [, channel, control] = /^(?:ch (\d+) )?(.*)$/.exec(on);
  const name = control.replace(/^(cc14|cc|nrpn)\b/, (kind) => kind.toUpperCase());
  return channel && channel !== "1" ? `${name} ch ${channel}` : name;
}
