// What went wrong, what was fired, who moved what. Newest first; a slider that goes on moving stays one line.

import { el } from "./el.js";
import { kept, keep } from "./kept.js";

const KEPT = 200;
const MARKS = { error: "!", warning: "!", look: "◆", cue: "▶", move: "~", note: "·" };

export class Log {
  /** `alarm(count)`: errors and warnings that nobody has looked at yet. */
  constructor(root, alarm) {
    this.alarm = alarm;
    this.lines = new Map();
    this.unread = new Set();
    this.list = el("ol", { role: "log", "aria-label": "Newest first" });
    const moves = el("button", { type: "button", role: "switch", className: "switch", id: "log-moves", textContent: "moves", title: "Whether moves of single controls are shown" });
    const show = (on) => {
      moves.setAttribute("aria-checked", String(on));
      this.list.classList.toggle("no-moves", !on);
    };
    moves.addEventListener("click", () => {
      const on = moves.getAttribute("aria-checked") !== "true";
      show(on);
      keep("log.moves", on);
    });
    show(kept("log.moves", true));
    root.append(el("div", { className: "head" }, el("h2", { textContent: "log" }), moves), this.list);
  }

  /** `first`: what was there before this page came is no alarm. */
  add(entries, first) {
    for (const entry of entries) {
      const old = this.lines.get(entry.number);
      const line = this.line(entry);
      if (old) old.replaceWith(line);
      else {
        this.list.prepend(line);
        if (!first && (entry.kind === "error" || entry.kind === "warning")) this.unread.add(entry.number);
      }
      this.lines.set(entry.number, line);
    }
    for (const number of this.lines.keys()) {
      if (this.lines.size <= KEPT) break;
      this.lines.get(number).remove();
      this.lines.delete(number);
    }
    this.alarm(this.unread.size);
  }

  clear() {
    this.lines.clear();
    this.list.replaceChildren();
  }

  read() {
    this.unread.clear();
    this.alarm(0);
  }

  line({ number, at, kind, text, who }) {
    const time = new Date(at * 1000).toTimeString().slice(0, 8);
    return el("li", { "data-kind": kind, "data-number": number },
      el("time", { textContent: time }),
      el("span", { className: "mark", textContent: MARKS[kind] ?? "·", "aria-hidden": "true" }),
      el("span", { className: "text" }, ...(who ? [el("b", { textContent: who }), " "] : []), text));
  }
}
