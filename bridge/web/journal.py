"""The log of the desk: what went wrong, what was fired, who moved what. The last entries, and nothing on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bridge.setting import Setting
from bridge.web.messages import Entry

KEPT = 200
SAME_S = 2.0
"""A slider that goes on moving is one entry."""
KINDS = {"look": "recalled", "cue": "fired", "show": "put on", "saved": "saved", "deleted": "deleted"}


class Journal(logging.Handler):
    """Used on one thread, but for `emit`, which hands over to it by `post`. A logging handler for warnings."""

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        """`post(job)`: have a job done on the thread that all else here runs on, from any thread."""
        super().__init__(logging.WARNING)
        self._post = post
        self._entries: dict[int, Entry] = {}
        self._moves: dict[tuple[str, str], int] = {}
        self._fresh: dict[int, None] = {}
        self._count = 0

    def all(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    def fresh(self) -> tuple[Entry, ...]:
        """What was added or changed since the last call."""
        fresh, self._fresh = self._fresh, {}
        return tuple(self._entries[number] for number in fresh if number in self._entries)

    def note(self, kind: str, text: str, who: str = "") -> int:
        """One more entry; its number. What is said again at once, as an error and in the log, is one entry."""
        last = self._entries.get(self._count)
        if last is not None and (last.text, last.who) == (text, who) and time.time() - last.at < SAME_S:
            return self._count
        self._count += 1
        self._put(Entry(self._count, time.time(), kind, text, who))
        while len(self._entries) > KEPT:
            del self._entries[next(iter(self._entries))]
        return self._count

    def did(self, kind: str, what: str, origin: object) -> None:
        """From a director's news."""
        self.note(kind if kind in ("look", "cue") else "note", f"{KINDS.get(kind, kind)} {what}", who(origin))

    def moved(self, setting: Setting) -> None:
        """A hand moved a row; what looks, cues and schedules move has no origin, and is none."""
        if setting.origin is None:
            return
        key = who(setting.origin), setting.name
        over = f" in {setting.over_s:g} s" if setting.over_s else ""
        text = f"{setting.name.replace('_', ' ')} → {_said(setting.value)}{over}"
        last = self._entries.get(self._moves.get(key, 0))
        if last is not None and time.time() - last.at < SAME_S:
            self._put(Entry(last.number, time.time(), "move", text, key[0]))
        else:
            self._moves = {k: number for k, number in self._moves.items() if number in self._entries}
            self._moves[key] = self.note("move", text, key[0])

    def emit(self, record: logging.LogRecord) -> None:
        kind, text = ("error" if record.levelno >= logging.ERROR else "warning"), record.getMessage()
        self._post(lambda: self._warn(kind, text))

    def _warn(self, kind: str, text: str) -> None:
        self.note(kind, text[:400])

    def _put(self, entry: Entry) -> None:
        self._entries[entry.number] = entry
        self._fresh.pop(entry.number, None)
        self._fresh[entry.number] = None


def who(origin: object) -> str:
    """The name of whoever moved something: a page has one, an OSC sender an address; nobody is the show itself."""
    if isinstance(origin, tuple) and origin:
        return f"OSC {origin[0]}"
    return "" if origin is None else str(origin)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
