// Which parts of the desk are in sight: tabs on a phone, tabs beside the pictures, the play layout; and the screen awake.

import { kept, keep } from "./kept.js";

export class Layout {
  /** `turned()` is called whenever other parts have come into sight. */
  constructor(turned) {
    this.turned = turned;
    this.play = document.getElementById("layout");
    for (const kind of ["tab", "side"]) {
      const buttons = [...document.querySelectorAll(`nav button[data-${kind}]`)];
      const names = buttons.map((button) => button.dataset[kind]);
      for (const button of buttons) button.addEventListener("click", () => this.turn(kind, button.dataset[kind]));
      const last = kept(kind, names[0]);
      this.turn(kind, names.includes(last) ? last : names[0]);
    }
    this.play.addEventListener("click", () => this.toggle());
    this.set(kept("layout", "desk"));
    this.wake();
  }

  turn(kind, name) {
    document.body.dataset[kind] = name;
    for (const button of document.querySelectorAll(`nav button[data-${kind}]`)) {
      if (button.dataset[kind] === name) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    }
    keep(kind, name);
    this.turned();
  }

  toggle() {
    this.set(document.body.dataset.layout === "play" ? "desk" : "play");
  }

  set(layout) {
    document.body.dataset.layout = layout;
    this.play.textContent = layout === "play" ? "desk" : "play";
    keep("layout", layout);
    this.turned();
  }

  /** A phone in the dark must not lock in the middle of a song. Browsers allow that on localhost and https alone. */
  wake() {
    if (!navigator.wakeLock || !matchMedia("(pointer: coarse)").matches) return;
    const ask = () => document.hidden || navigator.wakeLock.request("screen").catch(() => {});
    document.addEventListener("visibilitychange", ask);
    ask();
  }
}
