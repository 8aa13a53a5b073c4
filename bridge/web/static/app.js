// The page: a link to the bridge, two pictures, the meters, and controls drawn from the parameter table.

import { el, makeControl } from "./controls.js";
import { Groups } from "./groups.js";
import { Link } from "./link.js";
import { Meters } from "./meters.js";
import { makeTheatre, Painter, parse } from "./pictures.js";
import { Structure } from "./structure.js";

const id = (name) => document.getElementById(name);
const meters = new Meters();
const controls = new Map();
const painters = {
  input: new Painter(id("input"), (picture) => painted(picture)),
  output: new Painter(id("output"), (picture) => painted(picture)),
  hint: new Painter(id("hint"), (picture) => painted(picture)),
};
const groups = new Groups(id("panel"));
const structure = new Structure((values) => link.send({ type: "set", values }));
let drawn = "";
let version = "";
let shown = { version: 0, latency: 0 };
let promptVersion = Infinity;

const seconds = () => Math.max(0, Math.min(600, id("seconds").valueAsNumber || 0));

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
  link.move(row.name, value, row.ramps || row.kind === "encode" ? seconds() : 0);
}

function promptLive() {
  promptVersion = Infinity;
  for (const control of controls.values()) control.live?.();
}

function draw(hello) {
  controls.clear();
  for (const place of ["prompts", "times", "switches", "commands"]) id(place).replaceChildren();
  groups.clear();
  for (const row of hello.table) {
    const control =
      row.kind === "structural" ? structure.control(row) : makeControl(row, (value) => move(row, value), () => seconds() > 0);
    controls.set(row.name, control);
    place(row, control.root);
  }
  groups.place("model").append(structure.footer);
  for (const name of hello.commands) {
    const button = el("button", { type: "button", className: "command", textContent: name.replaceAll("_", " ") });
    button.addEventListener("click", () => link.send({ type: "command", name }));
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
  }
}

/** Under its group's heading a row need not name the group again. */
function shorten(root, row) {
  const label = root.querySelector(".name") ?? root;
  const own = `${row.group.replaceAll(" ", "")} `;
  if (label.textContent.startsWith(own)) label.textContent = label.textContent.slice(own.length);
}

function show(values, times = {}) {
  for (const [name, value] of Object.entries(values)) {
    controls.get(name)?.show(value, times[name] ?? 0);
    groups.note(name, value);
  }
  if (values.hint_preview !== undefined) look(values.hint_preview);
}

function hear(message) {
  if (message.type === "hello") {
    // After an update of the bridge the page must be the new one too.
    if (version && version !== message.version) return location.reload();
    version = message.version;
    const table = JSON.stringify([message.table, message.commands]);
    if (table !== drawn) draw(message);
    drawn = table;
    meters.label(message.figures);
    show({ ...message.values, ...link.waiting() });
    link.flush();
    watch();
  } else if (message.type === "change") show(message.values, message.seconds);
  else if (message.type === "problem") meters.problem(message.text);
  else if (message.type === "stats") {
    meters.show(message.readings);
    structure.running(message.readings["/info/model"]);
    for (const control of controls.values()) control.told?.(message.readings);
    for (const painter of Object.values(painters)) painter.caption();
  }
}

/** Make room for the hint of control unit `number`; 0 is none. */
function look(number) {
  id("hint").hidden = !number;
  id("hint").querySelector(".what").textContent = number ? `unit ${number}` : "";
  watch();
}

/** A hidden window wants no pictures: nothing is encoded for it. */
function watch() {
  link.send({ type: "watch", shelves: document.hidden ? [] : ["input", "output", ...(id("hint").hidden ? [] : ["hint"])] });
}

const link = new Link(
  hear,
  (buffer) => {
    const picture = parse(buffer);
    painters[picture.shelf].take(picture);
  },
  (state, sentence) => meters.link(state, sentence),
);

// The token has become a cookie; it should not stay where people can read it over a shoulder.
history.replaceState(null, "", location.pathname);
document.addEventListener("visibilitychange", watch);
makeTheatre(id("output"));
