"""MIDI learn: which of the things that come in is the control that somebody moves."""

from __future__ import annotations

from typing import NamedTuple

from bridge.clock import MS
from bridge.midi.bindings import Binding
from bridge.midi.events import FINE, Event

WINDOW_NS = 50 * MS
"""A pair's second half, or an NRPN's value, comes within this time."""
TOUCH_NS = 300 * MS
"""A fader that feels the finger sends a note, and moves a little later: the movement is what is meant."""


class Found(NamedTuple):
    port: str
    event: Event
    rank: int
    since_ns: int


class Learner:
    """Not thread-safe."""

    def __init__(self, binding: Binding, page: str = "") -> None:
        """`binding`: what is to be bound, to no control yet. `page`: the one that asked, if it was one."""
        self.binding, self.page = binding, page
        self._found: Found | None = None

    def offer(self, port: str, event: Event, at_ns: int) -> None:
        rank = _rank(event)
        if rank and (self._found is None or rank > self._found.rank):
            self._found = Found(port, event, rank, at_ns if self._found is None else self._found.since_ns)

    def due(self, at_ns: int) -> Found | None:
        """The control, once nothing better is to be expected."""
        if self._found is None:
            return None
        patience = TOUCH_NS if self._found.event.control.kind == "note" else WINDOW_NS
        return self._found if at_ns - self._found.since_ns >= patience else None


def _rank(event: Event) -> int:
    """How likely it is what was meant; 0 for what nobody means."""
    control = event.control
    if control.kind == "note":
        return 2 if event.pressed else 0
    if control.kind == "cc14":
        return 4 if event.steps == FINE else 0
    if control.kind == "cc":
        return 0 if 98 <= control.number <= 101 else 3
    return {"nrpn": 5, "pitch": 3, "program": 2, "pressure": 1}.get(control.kind, 0)
