"""MIDI clock: 24 ticks a quarter note, on time within some milliseconds, to a beat that runs straight.

The ticks' times are fitted with a straight line (least squares) over the last four beats: a millisecond of jitter moves
the tempo by some hundredths of a beat a minute, and the line is exact on a stream without any. When the newest ticks
say that the tempo is another one, the older are forgotten, so that a step is followed within a beat or so.

Start and Continue give the next tick its place in the song, Song Position moves it. Stop stops nothing here: a picture
shall not stand still because a player does, and many players send no ticks then anyway.
"""

from __future__ import annotations

import math
from collections import deque

from bridge.show.tempo import Line

PER_BEAT = 24
SPAN = 4 * PER_BEAT
"""Ticks that are fitted."""
ENOUGH = 12
"""Ticks before there is a tempo."""
KEPT = 5
"""Those that are kept when it has changed."""
LATELY = 8
CHANGED = 0.03
"""Share by which the last LATELY intervals must be off before the tempo has changed; more where jitter is great."""
MEMORY = 32
"""Ticks that the measure of jitter goes back."""
SILENT_S = 0.5
FASTEST, SLOWEST = 400.0, 10.0
"""Beats a minute that are believed."""


class Clock:
    """One port's clock. Not thread-safe. Times in seconds of the bridge's clock."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, float]] = deque(maxlen=SPAN)
        self._count = 0
        """Number of the next tick since the port was opened: what the line is fitted by."""
        self._shift = 0
        """From that number to its place in the song."""
        self._song = 0
        """Place in the song of the next tick, where it goes on after a stop."""
        self._placed = False
        self._mark = 0
        self.playing = False
        self._fit: tuple[float, float, float] | None = None
        """Number and time of a point of the line, and seconds from tick to tick."""
        self._jitter = 0.0
        """Mean square of the seconds by which ticks come beside the line."""

    def tick(self, at_s: float) -> None:
        if self._points and at_s - self._points[-1][1] > SILENT_S:
            self._points.clear()
            self._fit = None
        if not self._points or at_s > self._points[-1][1]:  # one that is older was stamped on another thread
            self._note(at_s)
            self._points.append((self._count, at_s))
        self._count += 1
        self._song += self.playing
        if self._fit is not None or len(self._points) >= ENOUGH:
            self._fit = self._fitted()
            if self._has_changed():
                while len(self._points) > KEPT:
                    self._points.popleft()
                self._fit = self._fitted()

    def start(self) -> None:
        """The next tick is the first of the song."""
        self._song, self.playing = 0, True
        self._place()

    def resume(self) -> None:
        """The next tick is where the song stopped, or was moved to."""
        self.playing = True
        self._place()

    def stop(self) -> None:
        self.playing = False

    def position(self, sixteenths: int) -> None:
        self._song = sixteenths * (PER_BEAT // 4)
        if self.playing:
            self._place()

    def line(self, at_s: float) -> Line | None:
        """Where its beat is; None while there are no ticks, or too few."""
        if self._fit is None or at_s - self._points[-1][1] > SILENT_S:
            return None
        number, when, period = self._fit
        bpm = 60.0 / (PER_BEAT * period)
        if not SLOWEST <= bpm <= FASTEST:
            return None
        place = number + (at_s - when) / period + self._shift
        return Line(place / PER_BEAT, bpm, self._placed, self._mark)

    def _place(self) -> None:
        self._shift, self._placed = self._song - self._count, True
        self._mark += 1

    def _fitted(self) -> tuple[float, float, float] | None:
        count = len(self._points)
        first = self._points[0][1]
        n = sum(number for number, _ in self._points) / count
        t = sum(at - first for _, at in self._points) / count
        spread = sum((number - n) ** 2 for number, _ in self._points)
        period = sum((number - n) * (at - first - t) for number, at in self._points) / spread
        return (n, first + t, period) if period > 0.0 else None

    def _note(self, at_s: float) -> None:
        """How far beside the line the next tick is. A change of tempo must not pass for jitter: it grows slowly."""
        if self._fit is not None:
            number, when, period = self._fit
            off = at_s - when - (self._count - number) * period
            self._jitter += (min(off * off, 9.0 * self._jitter + 1e-6) - self._jitter) / MEMORY

    def _has_changed(self) -> bool:
        """Whether the newest intervals are of another length than the line has."""
        if self._fit is None or len(self._points) <= LATELY:
            return False
        (n1, t1), (n2, t2) = self._points[-1 - LATELY], self._points[-1]
        period = self._fit[2]
        away = abs((t2 - t1) / (n2 - n1) - period)
        # The mean of LATELY intervals strays by sqrt(2) / LATELY of the jitter: five times that is no accident.
        return away > max(CHANGED * period, 5.0 * math.sqrt(2.0 * self._jitter) / LATELY)
