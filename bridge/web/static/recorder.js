// Record what goes out, and stills of it. Whoever pressed, every page shows that it runs, for how long, and what was lost.

import { el } from "./el.js";

export class Recorder {
  /** `say(address, ...args)` does what that OSC address does. */
  constructor(root, say) {
    this.record = el("button", { type: "button", id: "record", "aria-pressed": "false", title: "Record what goes out (R)" });
    this.still = el("button", { type: "button", id: "still", textContent: "still", title: "Save the picture that goes out" });
    this.record.addEventListener("click", () => this.toggle());
    this.still.addEventListener("click", () => say("still"));
    Object.assign(this, { say, on: false });
    root.append(this.record, this.still);
    this.show({});
  }

  toggle() {
    this.say("record", this.on ? 0 : 1);
  }

  show(readings) {
    this.on = Boolean(readings["/record/on"]);
    const seconds = Math.floor(readings["/record/seconds"] ?? 0);
    const lost = readings["/record/lost"] ?? 0;
    const time = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    this.record.textContent = this.on ? `● ${time}${lost ? `, ${lost} lost` : ""}` : "● rec";
    this.record.setAttribute("aria-pressed", String(this.on));
    this.record.setAttribute("aria-label", this.on ? `Recording for ${time}; press to stop` : "Record");
    this.record.title = readings["/record/state"] || "Record what goes out (R)";
    this.still.title = readings["/still/saved"] ? `Saved last: ${readings["/still/saved"]}` : "Save the picture that goes out";
  }
}
