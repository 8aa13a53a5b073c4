// A box for a prompt: it goes out on Enter or after a pause, says what becomes of it, counts its tokens, keeps what it had.

import { el } from "./el.js";
import { kept, keep } from "./kept.js";

const TYPING_MS = 700;
const HISTORY = 30;

/** `frame(row, ...children)` is what every control stands in. */
export function promptBox(row, frame, move) {
  const box = el("textarea", { rows: 1, maxLength: 2000, spellcheck: false, autocomplete: "off", "aria-label": row.name, placeholder: row.doc });
  const note = el("span", { className: "note", role: "status" });
  const tokens = el("span", { className: "tokens", title: "Tokens that the text encoder is given" });
  const past = history(row.name, (text) => {
    box.value = text;
    grow();
    send();
  });
  const root = frame(row, note, tokens, past.button, box, past.list);
  let sent = row.default;
  let timer = null;
  let watched = false;
  const say = (state, words = "") => {
    root.dataset.sent = state;
    note.textContent = words || { typing: "typing", sent: "encoding", fading: "fading in", live: "" }[state];
  };
  const send = () => {
    clearTimeout(timer);
    if (box.value === sent) return say("live");
    sent = box.value;
    say("sent");
    past.add(sent);
    move(sent);
  };
  const grow = () => {
    if (CSS.supports("field-sizing", "content")) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  };
  box.addEventListener("input", () => {
    grow();
    say("typing");
    clearTimeout(timer);
    timer = setTimeout(send, TYPING_MS);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return box.blur();
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    send();
  });
  box.addEventListener("blur", send);
  const show = (value) => {
    if (root.dataset.sent === "typing") return;
    sent = value;
    past.add(value);
    if (box.value === value) return;
    box.value = value;
    grow();
  };
  // The worker's notes tell exactly what it shows; where it has none, a picture newer than the change must do.
  const told = (readings) => {
    const note = (what) => readings[`/${row.name}/${what}`];
    watched = note("shown") !== undefined;
    const count = note("tokens");
    tokens.textContent = count ? `${count} token${count === 1 ? "" : "s"}` : "";
    if (!watched || root.dataset.sent === "typing") return;
    if (note("shown") !== sent) say("sent", note("error"));
    else if (note("fade") < 1) say("fading");
    else say("live", note("unknown") && `not known: ${note("unknown")}`);
  };
  const live = () => !watched && root.dataset.sent === "sent" && say("live");
  show(row.default);
  return { root, show, told, live };
}

/** What this box had before, whoever wrote it; newest first, a tap brings it back. */
function history(name, take) {
  const key = `history.${name}`;
  const button = el("button", { type: "button", className: "past", textContent: "history", "aria-expanded": "false" });
  const list = el("ul", { className: "history", hidden: true });
  let texts = kept(key, []);
  const open = (on) => {
    list.hidden = !on;
    button.setAttribute("aria-expanded", String(on));
    if (on) list.replaceChildren(...texts.map(entry));
  };
  const entry = (text) => {
    const again = el("button", { type: "button", textContent: text });
    again.addEventListener("click", () => {
      open(false);
      take(text);
    });
    return el("li", {}, again);
  };
  button.hidden = !texts.length;
  button.addEventListener("click", () => open(list.hidden));
  return {
    button,
    list,
    add(text) {
      if (!text.trim() || texts[0] === text) return;
      texts = [text, ...texts.filter((other) => other !== text)].slice(0, HISTORY);
      button.hidden = false;
      keep(key, texts);
    },
  };
}
