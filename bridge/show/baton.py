"""Who gives the beat: the tempo that is set here, a MIDI clock, or Ableton Link, as the row `tempo_source` says.

The row `tempo` always shows the tempo that is: a clock that leads writes it, so that the beat goes on as it was when
that clock falls silent. Whoever sets `tempo` meanwhile is heard by Link, and corrected by a MIDI clock, which takes no
orders.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.clock import seconds
from bridge.metrics import Metrics
from bridge.show.drives import Drives
from bridge.show.tempo import Leader
from bridge.store import ParamStore, Setting

LEADER = "the clock that leads"
"""Origin of what another clock sets."""
MIN_BPM, MAX_BPM = 20.0, 300.0
SHOWN_BPM = 0.08
"""A change of a leader's tempo that is worth telling."""


class Baton:
    """Thread-safe."""

    def __init__(self, store: ParamStore, drives: Drives, metrics: Metrics) -> None:
        self._store, self._drives, self._metrics = store, drives, metrics
        self._pushes: dict[str, Callable[[float], None]] = {}
        self._downbeats: dict[str, Callable[[], bool]] = {}
        self._told_bpm, self._source = 0.0, "own"
        store.watch(self._heard)

    def lend(
        self,
        name: str,
        leader: Leader,
        push: Callable[[float], None] | None = None,
        downbeat: Callable[[], bool] | None = None,
    ) -> None:
        """A clock that `tempo_source` can name. `push` hands it a tempo that is set here; `downbeat` lets its bar begin
        now, and tells whether it could."""
        self._drives.leaders[name] = leader
        if push is not None:
            self._pushes[name] = push
        if downbeat is not None:
            self._downbeats[name] = downbeat

    def tap(self, at_ns: int) -> None:
        """A beat is now."""
        bpm = self._drives.tap(seconds(at_ns))
        if bpm is not None:
            self._store.set("tempo", _sane(bpm, 2), at_ns=at_ns)

    def downbeat(self, at_ns: int) -> None:
        """A bar begins now: for all in a session if they let us, else for us alone."""
        begin = self._downbeats.get(self._drives.source) if self._drives.led else None
        if begin is None or not begin():
            self._drives.downbeat(seconds(at_ns))

    def tell(self) -> None:
        """Bring a leader's tempo into the row, and say whose beat it is."""
        source = self._drives.source
        self._metrics.gauge("beat.from", source if self._drives.led else "own")
        if source != self._source:
            self._source = source
            if source != "own" and source not in self._drives.leaders:
                self._metrics.gauge("error", f"tempo_source is {source}, but it is not there: start with --{source}")
        bpm = self._drives.tempo.bpm
        if not self._drives.led:
            self._told_bpm = 0.0
        elif abs(bpm - self._told_bpm) > SHOWN_BPM:
            self._told_bpm = bpm
            self._store.set("tempo", _sane(bpm, 1), origin=LEADER)

    def _heard(self, setting: Setting) -> None:
        """A hand on the tempo, on the hand's thread."""
        if setting.name != "tempo" or setting.origin is LEADER or not self._drives.led:
            return
        if push := self._pushes.get(self._drives.source):
            push(float(setting.value))
        else:
            self._told_bpm = 0.0


def _sane(bpm: float, digits: int) -> float:
    return min(MAX_BPM, max(MIN_BPM, round(bpm, digits)))
