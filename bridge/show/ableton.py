"""Ableton Link: tempo, beat and bar shared with the other programs of the local network, in both directions.

The package LinkPython-extern carries Ableton's own code, which is under the GPL (2 or later) for whoever has no
licence of Ableton's. So it is no part of livelatent, nor of any extra but that of its own: whoever wants it installs
it. Nothing here runs, and nothing is sent to the network, but with `--link` (`link.enabled`).
"""

from __future__ import annotations

import importlib
import logging
import math
from typing import Any

from bridge.clock import now_ns, seconds
from bridge.errors import DriverMissing
from bridge.metrics import Metrics
from bridge.show.director import Director
from bridge.show.tempo import Line

log = logging.getLogger("livelatent.link")

SPEEDS = 20.0, 999.0
"""The tempos that Link takes."""
READINGS, TIGHT_NS = 5, 50_000
"""How often the two clocks are compared at most, and how close to each other they are read, for that to be enough."""


def peer_module() -> Any:
    """The module. Raises DriverMissing."""
    try:
        return importlib.import_module("link")
    except ImportError as error:
        how = 'pip install "livelatent[link]"'
        raise DriverMissing(f"Ableton Link needs `{how}`, whose code is under the GPL (2 or later)") from error


class Ableton:
    """One peer. `start` joins the session, `stop` leaves it."""

    def __init__(self, director: Director, metrics: Metrics) -> None:
        """Raises DriverMissing."""
        self._director, self._metrics = director, metrics
        self._tempo = director.drives.tempo
        self._link = peer_module().Link(self._tempo.bpm)
        self._clock = self._link.clock()
        director.baton.lend("link", self.line, self.push, self.downbeat)

    def start(self) -> None:
        # Alone, we begin the session with our own tempo and bar; where others are, theirs holds.
        state = self._link.captureAppSessionState()
        at_s = seconds(now_ns())
        state.setTempo(self._tempo.bpm, self._micros(at_s))
        state.requestBeatAtTime(self._tempo.beat(at_s), self._micros(at_s), self._tempo.per_bar)
        self._link.commitAppSessionState(state)
        self._link.enabled = True
        log.info("joined Ableton Link")

    def stop(self) -> None:
        self._link.enabled = False

    def tick(self) -> None:
        """How many others there are, for people to see."""
        self._metrics.gauge("link.peers", self._link.numPeers())

    def line(self, at_s: float) -> Line:
        """A `Leader`. It is never silent: a peer that is alone gives the beat itself."""
        state = self._link.captureAppSessionState()
        return Line(state.beatAtTime(self._micros(at_s), self._tempo.per_bar), state.tempo(), True)

    def push(self, bpm: float) -> None:
        """Set everybody's tempo."""
        state = self._link.captureAppSessionState()
        state.setTempo(min(SPEEDS[1], max(SPEEDS[0], bpm)), self._clock.micros())
        self._link.commitAppSessionState(state)

    def downbeat(self) -> bool:
        """Let the session's bar begin now, if nobody else is in it: what others play must not jump."""
        if self._link.numPeers():
            return False
        state = self._link.captureAppSessionState()
        state.requestBeatAtTime(0.0, self._clock.micros(), self._tempo.per_bar)
        self._link.commitAppSessionState(state)
        return True

    def _micros(self, at_s: float) -> int:
        """That time on Link's clock, which runs on its own; microseconds."""
        best, apart = 0.0, math.inf
        for _ in range(READINGS):
            before = now_ns()
            micros = self._clock.micros()
            after = now_ns()
            if after - before < apart:  # else this thread was held up between the two clocks
                best, apart = micros - 0.5e-3 * (before + after), after - before
            if apart < TIGHT_NS:
                break
        return int(best + at_s * 1e6)
