// The desk: a link to the bridge, pictures, looks, cues, meters, a log, and controls drawn from the parameter table.

import { makeControl } from "./controls.js";
import { Cues } from "./cues.js";
import { Details } from "./details.js";
import { el } from "./el.js";
import { Groups } from "./groups.js";
import { listen } from "./keys.js";
import { Layout } from "./layout.js";
import { Learn } from "./learn.js";
import { Link } from "./link.js";
import { Log } from "./log.js";
import { Looks } from "./looks.js";
import { Meters } from "./meters.js";
import { Moves } from "./moves.js";
import { makeTheatre, Painter, parse } from "./pictures.js";
import { Recorder } from "./recorder.js";
import { Structure } from "./structure.js";

const THEIRS_MS = 1200;
const IN_TRANSPORT = ["cue/go", "cue/back"];

const id = (name) => document.getElementById(name);
const part = (name) => document.querySelector(`section.${name}`);
const say = (address, ...args) => link.send({ type: "say", address, args }) || meters.problem("not connected: nothing was sent");
const command = (name) => link.send({ type: "command", name }) || meters.problem("not connected: nothing was sent");

const meters = new Meters();
const details = new Details(part("details"));
const log = new Log(part("log"), alarm);
const looks = new Looks(part("looks"), say, (name) => cues.enlist(name));
const cues = new Cues(part("cues"), say, command, () => looks.time);
const layout = new Layout(() => {
  seen();
  looks.editing(false);
});
const moves = new Moves(id("moves"));
const controls = new Map();
const painters = Object.fromEntries(["input", "output", "hint"].map((name) => [name, new Painter(id(name), painted)]));
const groups = new Groups(id("groups"));
const recorder = new Recorder(id("recorder"), say);
const structure = new Structure((values) => link.send({ type: "set", values }));
const rows = new Map();
const values = {};
const learn = new Learn(say, [
  ["[data-name]", (node) => bindable(rows.get(node.dataset.name))],
  ["[data-look]", (node) => looks.way(node.dataset.look)],
  ...["cue/go", "cue/back", "cue/hold"].map((address) => [`#${address.slice(4)}`, () => [address]]),
  [".command", (node) => [node.dataset.command]],
  ...["record", "still"].map((address) => [`#${address}`, () => [address]]),
]);
let drawn = "";
let version = "";
let you = "";
let greeted = false;
let shown = { version: 0, latency: 0 };
let promptVersion = Infinity;

function painted(picture) {
  link.send({ type: "ack", shelf: picture.shelf, number: picture.number });
  if (picture.shelf !== "output") return;
  meters.note(picture.latency);
  shown = picture;
  if (picture.version > promptVersion) promptLive();
}

function move(row, value) {
  if (row.kind === "encode") promptVersion = shown.version;
  groups.note(row.name, value);
  link.move(row.name, value, row.ramps || row.kind === "encode" ? moves.seconds : 0);
}

function promptLive() {
  promptVersion = Infinity;
  for (const control of controls.values()) control.live?.();
}

/** What a knob is bound to; a key where there is nothing to turn through, which brings back what is there now. */
function bindable(row) {
  const turns = row.type !== "text" && row.kind === "live";
  return turns ? [row.address] : [row.address, values[row.name]];
}

// Drawing

function draw(hello) {
  controls.clear();
  for (const place of ["prompts", "times", "switches", "commands"]) id(place).replaceChildren();
  groups.clear();
  rows.clear();
  for (const row of hello.table) {
    rows.set(row.name, row);
    const control =
      row.kind === "structural" ? structure.control(row) : makeControl(row, (value) => move(row, value), () => moves.seconds > 0);
    controls.set(row.name, control);
    place(row, control.root);
  }
  groups.place("model").append(structure.footer);
  for (const name of hello.commands.filter((name) => !IN_TRANSPORT.includes(name))) {
    const button = el("button", { type: "button", className: "command", "data-command": name, textContent: name.replaceAll("_", " ") });
    button.addEventListener("click", () => command(name));
    id("commands").append(button);
  }
}

function place(row, root) {
  if (row.group === "prompt" && row.type === "text") id("prompts").append(root);
  else if (row.group === "prompt" && row.unit === "s") id("times").append(root);
  else if (row.group === "show" && row.type === "bool") id("switches").append(root);
  else {
    shorten(root, row);
    groups.add(row, root);
    const unit = /^control (\d)$/.exec(row.group)?.[1];
    if (unit && row.name.endsWith("_on")) root.after(peek(Number(unit)));
  }
}

/** Under its group's heading a row need not name the group again. */
function shorten(root, row) {
  const label = root.querySelector(".name") ?? root;
  const own = `${row.group.replaceAll(" ", "")} `;
  if (label.textContent.startsWith(own)) label.textContent = label.textContent.slice(own.length);
}

/** Shows what this control unit is shown, beside the pictures. */
function peek(unit) {
  const button = el("button", { type: "button", role: "switch", className: "switch peek", textContent: "see its hint", "data-unit": unit, "aria-checked": "false" });
  button.addEventListener("click", () => link.move("hint_preview", button.getAttribute("aria-checked") === "true" ? 0 : unit, 0));
  return button;
}

/** Make room for the hint of control unit `number`; 0 is none. */
function look(number) {
  for (const button of document.querySelectorAll(".peek")) button.setAttribute("aria-checked", String(Number(button.dataset.unit) === number));
  id("hint").hidden = !number;
  id("hint").querySelector(".what").textContent = number ? `unit ${number}` : "";
  watch();
}

// Hearing

function show(moved, times = {}, by = "") {
  Object.assign(values, moved);
  for (const [name, value] of Object.entries(moved)) {
    const control = controls.get(name);
    control?.show(value, times[name] ?? 0);
    groups.note(name, value);
    if (control && by && by !== you) theirs(control.root, by);
  }
  if (moved.hint_preview !== undefined) look(moved.hint_preview);
}

/** Somebody else moves this: let it be seen who, for a moment. */
function theirs(root, by) {
  root.dataset.by = by;
  clearTimeout(root.forget);
  root.forget = setTimeout(() => delete root.dataset.by, THEIRS_MS);
}

const heard = {
  hello(message) {
    // After an update of the bridge the page must be the new one too.
    if (version && version !== message.version) return location.reload();
    version = message.version;
    you = message.you;
    learn.greet(you);
    greeted = false;
    log.clear();
    const table = JSON.stringify([message.table, message.commands]);
    if (table !== drawn) draw(message);
    drawn = table;
    meters.label(message.figures);
    show({ ...message.values, ...link.waiting() });
    link.flush();
    watch();
  },
  change: (message) => show(message.values, message.seconds, message.by),
  problem: (message) => meters.problem(message.text),
  offer(message) {
    looks.show(message.looks);
    cues.offer(message.looks.map((card) => card.name), message.shows);
    learn.draw();
  },
  cues: (message) => cues.show(message),
  midi: (message) => learn.show(message.wiring),
  log(message) {
    log.add(message.entries, !greeted);
    greeted = true;
    seen();
  },
  detail: (message) => part("details").offsetParent && details.show(message),
  stats({ readings }) {
    meters.show(readings);
    structure.running(readings["/info/model"]);
    looks.mark(readings["/look/now"]);
    recorder.show(readings);
    learn.told(readings["/midi/state"]);
    cues.time(readings["/cue/in"]);
    for (const control of controls.values()) control.told?.(readings);
    for (const painter of Object.values(painters)) painter.caption();
  },
};

/** How many errors nobody has looked at, on the way to the log. */
function alarm(count) {
  for (const button of document.querySelectorAll("nav button:is([data-tab=log], [data-side=log])")) button.dataset.count = count || "";
}

function seen() {
  if (part("log").offsetParent) log.read();
}

/** A hidden window wants no pictures: nothing is encoded for it. */
function watch() {
  link.send({ type: "watch", shelves: document.hidden ? [] : ["input", "output", ...(id("hint").hidden ? [] : ["hint"])] });
}

const link = new Link(
  (message) => heard[message.type]?.(message),
  (buffer) => {
    const picture = parse(buffer);
    painters[picture.shelf].take(picture);
  },
  (state, sentence) => meters.link(state, sentence),
);

id("keep").addEventListener("click", () => looks.asking());
// The token has become a cookie; it should not stay where people can read it over a shoulder.
history.replaceState(null, "", location.pathname);
document.addEventListener("visibilitychange", watch);
listen({
  go: () => cues.go(),
  back: () => cues.back(),
  hold: () => cues.hold(),
  look: (index) => looks.press(index),
  save: () => looks.asking(),
  record: () => recorder.on || recorder.toggle(),
  prompt: () => document.querySelector("[data-name=prompt] textarea")?.focus(),
  learn: () => learn.toggle(),
  layout: () => layout.toggle(),
  theatre: makeTheatre(id("output")),
});
