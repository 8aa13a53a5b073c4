"""When to begin with another frame: as late as the device lets one, since a later frame is a newer one."""

from __future__ import annotations

import time
from collections.abc import Callable

SLACK_S = 0.0005
"""A host does not wake up on time."""
SHARE = 0.2
"""Of a longer time in what is expected. A shorter one is believed at once: to wait too long costs frames, to wait too
little only makes one a little older."""


class Forecast:
    """One stream's. Until it has learnt how long frames take, there is nothing to wait for."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._enter_s = self._walk_s = 0.0
        self._busy_until = 0.0

    def learn(self, enter_ms: float, walk_ms: float) -> None:
        """How long the first two stages of a frame took."""
        self._enter_s = _expected(self._enter_s, enter_ms / 1e3)
        self._walk_s = _expected(self._walk_s, walk_ms / 1e3)

    def begun(self) -> None:
        """A frame was queued now."""
        self._busy_until = max(self._clock() + self._enter_s, self._busy_until) + self._walk_s

    def wait_s(self) -> float:
        """Seconds until the next one: it should be ready to be denoised when the one before has been."""
        return min(self._walk_s, max(0.0, self._busy_until - self._enter_s - SLACK_S - self._clock()))


def _expected(before: float, took: float) -> float:
    return took if took < before else before + SHARE * (took - before)
