"""When a sink writes: at once for a new frame, again when none came, never too often. No clock inside."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.clock import NS


@dataclass(frozen=True, slots=True)
class Pace:
    """How a sink wants its frames."""

    fps: float | None = None
    """A fixed grid (a recorder, a display); None: every new frame as soon as it is there."""
    hold_s: float | None = 0.02
    """Without a grid: repeat the last frame after this long with no new one; None never repeats."""


class Grid:
    """Ticks at a fixed rate, one frame a tick, with hysteresis.

    When producer and grid run at almost the same rate, the phase between them drifts slowly through zero, and plain
    newest-frame display then shows one frame twice and skips the next, again and again. So a frame that arrives within
    `guard` of a tick keeps the side that the frames before it had, until it is clearly on the other.
    """

    def __init__(self, fps: float, start_ns: int, guard: float = 0.15) -> None:
        self.period_ns = int(NS / fps)
        self._next_ns = start_ns + self.period_ns
        self._guard_ns = int(self.period_ns * guard)
        self._waiting = False

    @property
    def next_ns(self) -> int:
        """When the next frame is due."""
        return self._next_ns

    def due_ns(self, have_new: bool) -> int:
        """When to write: on the tick with a new frame in hand, up to `guard` later while one is expected."""
        late = 0 if have_new or not self._waiting else self._guard_ns
        return self._next_ns + late

    def wrote(self, at_ns: int, was_new: bool) -> int:
        """Advance past the tick just served; returns how many ticks were missed altogether."""
        self._waiting = was_new
        self._next_ns += self.period_ns
        missed = 0
        if at_ns >= self._next_ns + self.period_ns:
            missed = (at_ns - self._next_ns) // self.period_ns
            self._next_ns += missed * self.period_ns
        return int(missed)
