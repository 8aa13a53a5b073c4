// The keyboard, and the sheet that explains it. Keys fire things only while nobody is typing.

import { el } from "./el.js";

const SHEET = [
  ["space", "go: the next cue"],
  ["backspace, ←", "the cue before"],
  ["h", "hold the cue list, and let it go on"],
  ["1 to 9", "a look"],
  ["s", "save what is running as a look"],
  ["r", "record what goes out; the button alone stops it"],
  ["/", "to the prompt; Enter sends it, Shift+Enter is a new line"],
  ["← → on a slider", "a hundredth of its way; with Shift a thousandth"],
  ["m", "MIDI learn, where MIDI is on; Escape leaves it"],
  ["p", "the play layout: picture, looks, go"],
  ["f", "the picture alone; Escape comes back"],
  ["?", "this sheet"],
];
const GESTURES = [
  ["drag along a slider", "moves it by as much as the finger; a tap alone moves nothing"],
  ["double tap on its name", "back to how it came"],
  ["tap on the picture", "it fills the screen"],
];

const typing = (node) => node.matches?.("textarea, input[type=text], input[type=number], select");
const sliding = (node) => node.matches?.("input[type=range]");
/** Elements that somebody has reached with Tab keep their own keys. */
const pressed = (node) => node.matches?.("button, summary, [role=button], input[type=radio]") && node.matches(":focus-visible");

/** `acts`: go, back, hold, look(index), save, record, prompt, learn, layout, theatre. */
export function listen(acts) {
  const sheet = document.getElementById("keys");
  fill(sheet);
  const keys = {
    " ": acts.go,
    Backspace: acts.back,
    ArrowLeft: acts.back,
    h: acts.hold,
    s: acts.save,
    r: acts.record,
    "/": acts.prompt,
    m: acts.learn,
    p: acts.layout,
    f: acts.theatre,
    "?": () => sheet.showModal(),
  };
  for (let digit = 1; digit <= 9; digit++) keys[digit] = () => acts.look(digit - 1);
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || typing(target)) return;
    if ((sliding(target) || target.matches?.("input[type=radio]")) && key.startsWith("Arrow")) return;
    if (key === " " && pressed(target)) return;
    const act = keys[key];
    if (!act) return;
    event.preventDefault();
    // A key that is held down must not run through the whole list.
    if (!event.repeat) act();
  });
  // A button that a mouse has pressed, or that gets the focus back from a sheet, would take the next space for itself.
  document.addEventListener("close", ({ target }) => target.matches("dialog") && document.activeElement?.blur(), true);
  document.addEventListener("click", ({ detail, target }) => detail && target.closest?.("button, summary")?.blur());
  document.getElementById("help").addEventListener("click", () => sheet.showModal());
}

function fill(sheet) {
  const table = (rows) => el("dl", {}, ...rows.flatMap(([key, what]) => [el("dt", { textContent: key }), el("dd", { textContent: what })]));
  const close = el("button", { type: "button", textContent: "close", autofocus: true });
  close.addEventListener("click", () => sheet.close());
  sheet.addEventListener("click", ({ target }) => target === sheet && sheet.close());
  sheet.append(el("h2", { textContent: "keys" }), table(SHEET), el("h2", { textContent: "fingers" }), table(GESTURES), close);
}
