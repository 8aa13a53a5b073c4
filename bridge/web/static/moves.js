// How long a move of a control takes: a few times at a touch, and any other in the box.

import { el } from "./el.js";
import { kept, keep } from "./kept.js";

const TIMES = [0, 1, 4, 8];
const MOST_S = 600;

export class Moves {
  constructor(root) {
    this.box = el("input", { type: "number", id: "seconds", min: 0, max: MOST_S, step: "any", value: kept("moves", 0), inputMode: "decimal" });
    this.buttons = TIMES.map((time) => {
      const button = el("button", { type: "button", className: "time", textContent: time, "aria-label": time ? `Moves take ${time} seconds` : "Moves jump" });
      button.addEventListener("click", () => {
        this.box.value = time;
        this.mark();
      });
      return button;
    });
    this.box.addEventListener("input", () => this.mark());
    root.title = "How long a value takes to get where you send it; 0 jumps";
    root.append(el("label", { for: "seconds", textContent: "moves take" }), ...this.buttons, this.box, " s");
    this.mark();
  }

  get seconds() {
    return Math.max(0, Math.min(MOST_S, this.box.valueAsNumber || 0));
  }

  mark() {
    for (const [i, button] of this.buttons.entries()) button.setAttribute("aria-pressed", String(this.seconds === TIMES[i]));
    keep("moves", this.seconds);
  }
}
