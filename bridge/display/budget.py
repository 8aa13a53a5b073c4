"""Whether this machine keeps the display's rate."""

from __future__ import annotations

WARM_UP = 10
"""Ticks that do not count: what runs for the first time is slow."""
LOOKED_AT = 120
"""Ticks that a judgement is made over."""
MOST_MISSED = 0.25
MOST_WORK = 0.8
"""Of the time between two ticks."""


class Budget:
    """Judged once in LOOKED_AT ticks. One for each rate and size."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._left = -WARM_UP
        self._work_s = 0.0
        self._missed = 0

    def tick(self, work_s: float, missed: int) -> str:
        """One more tick, for which this much work was done and so many before it were missed. A sentence when the rate
        can't be kept; else nothing."""
        self._left += 1
        if self._left <= 0:
            return ""
        self._work_s += work_s
        self._missed += missed
        if self._left < LOOKED_AT:
            return ""
        mean_ms, share = self._work_s * 1000 / LOOKED_AT, self._missed / (self._missed + LOOKED_AT)
        self._left, self._work_s, self._missed = 0, 0.0, 0
        if mean_ms > MOST_WORK * 1000 / self._fps:
            return f"display_rate {self._fps:g} is given up: a picture takes {mean_ms:.0f} ms to move on"
        if share > MOST_MISSED:
            return f"display_rate {self._fps:g} is given up: {share:.0%} of the pictures came too late"
        return ""
