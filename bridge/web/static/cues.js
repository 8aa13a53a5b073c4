// The cue list: which one is on, which is next and when, and a drawer in each cue to change it while the list plays.

import { el } from "./el.js";
import { menu, tame } from "./looks.js";

const CURVES = ["linear", "ease", "in", "out"];
const QUANTISE = { now: "", beat: "beat", bar: "bar" };

const id = (name) => document.getElementById(name);

export class Cues {
  /** `say(address, ...args)`; `command(name)` for go and back; `manner()` gives the look's seconds for a new cue. */
  constructor(root, say, command, manner) {
    Object.assign(this, { root, say, command, manner });
    this.state = { cues: [], on: -1, then: -1, asked: -1, held: false, show: "", title: "", loop: false };
    this.looks = [];
    this.opened = -1;
    this.due = null;
    this.list = el("ol");
    // A list that is drawn anew under a finger, or under somebody who types, would lose the press and the words.
    this.pressed = this.stale = false;
    this.list.addEventListener("pointerdown", () => (this.pressed = true));
    for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => setTimeout(() => this.free(), 0));
    this.list.addEventListener("focusout", () => setTimeout(() => this.catchUp(), 0));
    this.load = el("select", { id: "show-load", "aria-label": "Put a cue list on" });
    this.load.addEventListener("change", () => {
      if (this.load.value === "+") this.say("show/new");
      else if (this.load.value) this.say("show/load", this.load.value);
    });
    this.root.append(el("div", { className: "head" }, el("h2", { textContent: "cues" }), this.load), this.list, this.adder(), this.saver());
    id("go").addEventListener("click", () => this.go());
    id("back").addEventListener("click", () => this.back());
    id("hold").addEventListener("click", () => this.hold());
  }

  go() {
    this.command("cue/go");
  }

  back() {
    this.command("cue/back");
  }

  hold() {
    this.say("cue/hold", !this.state.held);
  }

  adder() {
    this.look = el("select", { id: "cue-look", "aria-label": "Look of the new cue" });
    this.wait = el("input", { type: "text", id: "cue-wait", value: "hand", autocomplete: "off", "aria-label": "Wait of the new cue: hand, seconds, beats or bars", title: "hand, 8, 8 beats, 2 bars" });
    const form = el("form", { className: "adder" }, this.look, el("label", {}, "wait ", this.wait), el("button", { id: "cue-add", textContent: "add" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.look.value) this.enlist(this.look.value);
    });
    return form;
  }

  /** A look as the last cue. */
  enlist(look) {
    this.say("cue/insert", 0, look, this.manner(), timed(this.wait.value));
  }

  saver() {
    this.name = el("input", { type: "text", id: "show-name", maxLength: 40, autocomplete: "off", spellcheck: false, "aria-label": "Name of the cue list", placeholder: "name of the list" });
    const form = el("form", { className: "saver" }, this.name, el("button", { id: "show-save", className: "quiet", textContent: "save list" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const name = tame(this.name.value);
      if (!name) return this.name.focus();
      this.name.value = name;
      this.say("show/save", name);
      this.name.blur();
    });
    this.form = form;
    return form;
  }

  /** What can be chosen: every look, every cue list. */
  offer(looks, shows) {
    this.looks = looks;
    const chosen = this.look.value;
    this.look.replaceChildren(...looks.map((name) => el("option", { value: name, textContent: name })));
    this.look.value = looks.includes(chosen) ? chosen : (looks[0] ?? "");
    this.shows = shows;
    this.lists();
  }

  lists() {
    const { show, cues } = this.state;
    const names = this.shows ?? [];
    const none = cues.length ? (show ? [] : [el("option", { value: "", textContent: "not saved yet" })]) : [el("option", { value: "", textContent: "no list is on" })];
    this.load.replaceChildren(...none, ...names.map((name) => el("option", { value: name, textContent: name })), ...(cues.length ? [el("option", { value: "+", textContent: "a new one …" })] : []));
    this.load.value = names.includes(show) ? show : "";
  }

  show(state) {
    const same = JSON.stringify(state.cues) === JSON.stringify(this.state.cues);
    if (state.show !== this.state.show && document.activeElement !== this.name) this.name.value = state.show;
    this.state = state;
    document.querySelector(".transport").hidden = !state.cues.length;
    this.form.hidden = !state.cues.length;
    this.lists();
    this.stale ||= !same || !this.list.children.length;
    this.catchUp();
    this.mark();
  }

  free() {
    this.pressed = false;
    this.catchUp();
  }

  /** Draw what has changed, unless a hand is in it. */
  catchUp() {
    const typing = this.list.contains(document.activeElement) && document.activeElement.matches("input, select");
    if (!this.stale || this.pressed || typing) return;
    this.draw();
    this.mark();
  }

  draw() {
    const { cues } = this.state;
    this.stale = false;
    if (this.opened >= cues.length) this.opened = -1;
    const rows = cues.map((cue, i) => this.row(cue, i));
    if (!rows.length) rows.push(el("li", { className: "nothing", textContent: "A cue is a look with a time. Add the first one below, or put a list on above." }));
    this.list.replaceChildren(...rows);
  }

  row(cue, index) {
    const fire = el("button", { type: "button", className: "fire", textContent: "▶", title: "Fire this cue now", "aria-label": `Fire cue ${index + 1}, ${cue.name}` });
    fire.addEventListener("click", () => this.say("cue/jump", index + 1));
    const head = el("button", { type: "button", className: "cue", "aria-expanded": String(this.opened === index) },
      el("span", { className: "number", textContent: index + 1 }),
      el("span", { className: "title", textContent: cue.name || "(no look)" }),
      el("span", { className: "timing", textContent: timing(cue), title: "how long it moves · how long it stays" }));
    head.addEventListener("click", () => {
      this.opened = this.opened === index ? -1 : index;
      this.draw();
      this.mark();
    });
    const row = el("li", { "data-cue": index }, el("div", { className: "line" }, head, fire));
    if (this.opened === index) row.append(this.drawer(cue, index));
    return row;
  }

  drawer(cue, index) {
    const place = index + 1;
    const set = (key) => (value) => this.say("cue/set", place, key, value);
    const box = (label, value, take, hint = "") => {
      const input = el("input", { type: "text", value, autocomplete: "off", spellcheck: false, title: hint, "data-key": label });
      input.addEventListener("change", () => take(input.value.trim()));
      input.addEventListener("keydown", ({ key }) => ["Enter", "Escape"].includes(key) && input.blur());
      return el("label", {}, el("span", { textContent: label }), input);
    };
    const choose = (label, choices, value, take) => {
      const select = menu(`cue-${label}-${index}`, label, choices, value);
      select.dataset.key = label;
      select.addEventListener("change", () => {
        take(select.value);
        select.blur();
      });
      return el("label", {}, el("span", { textContent: label }), select);
    };
    const button = (text, act, properties = {}) => {
      const node = el("button", { type: "button", textContent: text, ...properties });
      node.addEventListener("click", act);
      return node;
    };
    const move = (to) => {
      this.opened = to - 1;
      this.say("cue/move", place, to);
    };
    return el("div", { className: "drawer" },
      box("name", cue.name, set("name")),
      choose("look", ["", ...this.looks], cue.look, set("look")),
      box("move", cue.move, (text) => set("move")(timed(text)), "seconds, or 2 beats, 1 bar"),
      choose("curve", CURVES, cue.curve, set("curve")),
      box("wait", cue.wait, (text) => set("wait")(timed(text)), "hand, seconds, 8 beats, 4 bars"),
      choose("begin", Object.keys(QUANTISE), cue.quantise || "now", (text) => set("quantise")(QUANTISE[text])),
      ...(cue.own.length ? [el("p", { className: "own", textContent: `sets ${cue.own.join(", ")}` })] : []),
      el("div", { className: "acts" },
        button("up", () => move(place - 1), { disabled: index === 0 }),
        button("down", () => move(place + 1), { disabled: place === this.state.cues.length }),
        button("remove", () => {
          this.opened = -1;
          this.say("cue/remove", place);
        }, { className: "danger" })));
  }

  mark() {
    const { on, then, asked, held, cues } = this.state;
    for (const row of this.list.children) {
      const index = Number(row.dataset.cue);
      row.classList.toggle("on", index === on);
      row.classList.toggle("then", index === then && asked < 0);
      row.classList.toggle("asked", index === asked);
      if (index === on) row.setAttribute("aria-current", "step");
      else row.removeAttribute("aria-current");
    }
    id("hold").setAttribute("aria-pressed", String(held));
    const next = cues[asked >= 0 ? asked : then];
    id("then").textContent = next ? next.name : "the end";
    const row = this.list.querySelector(".on");
    // Only within the list: the page stays where the hand is.
    if (row && this.list.scrollHeight > this.list.clientHeight && this.opened < 0) this.list.scrollTop = row.offsetTop - this.list.offsetTop - 48;
  }

  /** Seconds until the next cue fires by itself; negative if it waits for a hand. Counted on here between figures. */
  time(seconds) {
    this.due = seconds >= 0 ? performance.now() + seconds * 1000 : null;
    if (!this.counting) this.count();
  }

  count() {
    this.counting = this.due !== null;
    const left = this.due === null ? null : Math.max(0, (this.due - performance.now()) / 1000);
    const text = left === null ? "" : left < 60 ? left.toFixed(1) : `${Math.floor(left / 60)}:${String(Math.floor(left % 60)).padStart(2, "0")}`;
    if (id("in").textContent !== text) id("in").textContent = text;
    if (this.counting) requestAnimationFrame(() => this.count());
  }
}

const timed = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
const spoken = (value) => (typeof value === "number" ? `${value} s` : value);

function timing(cue) {
  const move = cue.move === 0 ? "cut" : spoken(cue.move);
  return `${move} · ${spoken(cue.wait)}${cue.next ? ` · to ${cue.next}` : ""}`;
}
