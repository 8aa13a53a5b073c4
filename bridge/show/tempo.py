"""The show's beat: a straight line over the clock that bends when the tempo changes, and never jumps but for a tap."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

MAX_GAP_S = 2.0
"""A pause between taps after which counting begins anew; so the slowest tapped tempo is 30."""
TAPS = 8
SLIP = 0.25
"""Beats by which another clock may be off before it counts as one that has jumped."""


class Line(NamedTuple):
    """Where another clock's beat is, now."""

    beat: float
    bpm: float
    placed: bool
    """Whether it knows where in the bar that is."""
    mark: int = 0
    """Another number than before: its song has begun, or was moved."""


Leader = Callable[[float], Line | None]
"""Another clock, asked with a time in seconds; None while it is silent."""


class Tempo:
    """Beats since the start. Not thread-safe: its owner's lock guards it. Times in seconds of the bridge's clock."""

    def __init__(self, at_s: float, bpm: float = 120.0, per_bar: int = 4) -> None:
        self.bpm, self.per_bar = bpm, per_bar
        self._turned, self._beats = at_s, 0.0
        self._taps: deque[float] = deque(maxlen=TAPS)
        self._offset = 0.0
        """From a leader's beat to ours: our count goes on, whatever its song does."""
        self._followed: tuple[int, int] | None = None
        """The leader's mark and the beats of a bar that the offset was made for; None while nobody leads."""

    def beat(self, at_s: float) -> float:
        """Beats that have passed; whole on the beat."""
        return self._beats + (at_s - self._turned) * self.bpm / 60.0

    def bar(self, at_s: float) -> int:
        """Whole bars that have passed."""
        return math.floor(self.beat(at_s) / self.per_bar)

    def turn(self, at_s: float, bpm: float, per_bar: int) -> None:
        """This tempo from now on."""
        if bpm != self.bpm:
            self._beats, self._turned, self.bpm = self.beat(at_s), at_s, bpm
        self.per_bar, self._followed = per_bar, None

    def follow(self, at_s: float, line: Line, per_bar: int) -> None:
        """Go with this clock. Our count of beats goes on: one that begins or jumps moves it by half a bar at most, to
        the same place in the bar, so that what waits for its bar is not sent minutes back."""
        here, known = self.beat(at_s), (line.mark, per_bar)
        if known != self._followed or abs(line.beat + self._offset - here) > SLIP:
            away = here - line.beat
            self._offset = round(away / per_bar) * per_bar if line.placed else away
        self._followed, self.per_bar = known, per_bar
        self._beats, self._turned, self.bpm = line.beat + self._offset, at_s, line.bpm

    def tap(self, at_s: float, moves: bool = True) -> float | None:
        """A beat is now, unless it is another's (`moves`). The tempo of the taps so far, beats a minute; None after the
        first."""
        if self._taps and not 0.0 < at_s - self._taps[-1] <= MAX_GAP_S:
            self._taps.clear()
        self._taps.append(at_s)
        if moves:
            self._beats, self._turned = float(round(self.beat(at_s))), at_s
        if len(self._taps) < 2:
            return None
        return 60.0 * (len(self._taps) - 1) / (self._taps[-1] - self._taps[0])

    def downbeat(self, at_s: float) -> None:
        """A bar begins now: the nearest one."""
        bars = round(self.beat(at_s) / self.per_bar)
        self._offset += bars * self.per_bar - self.beat(at_s)
        self._beats, self._turned = float(bars * self.per_bar), at_s

    def next_after(self, at_s: float, beats: float) -> float:
        """When the next whole multiple of so many beats is, seconds; `at_s` itself if it is one."""
        wanted = math.ceil(self.beat(at_s) / beats - 1e-6) * beats
        return self.after(at_s, wanted - self.beat(at_s))

    def after(self, at_s: float, beats: float) -> float:
        """The time so many beats from `at_s`, at the tempo that now is."""
        return at_s + beats * 60.0 / self.bpm
