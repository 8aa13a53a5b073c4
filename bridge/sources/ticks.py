"""A source's own clock: which picture is due, and sleeping until then."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge.clock import NS, now_ns


class Ticks:
    """Tick n is due n / fps seconds after `restart`: counted from the start, so that no error adds up.

    A reader that comes late gets the tick that is due now; those in between are skipped. Not thread-safe.
    """

    def __init__(
        self,
        fps: float,
        free: bool = False,
        clock: Callable[[], int] = now_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`free`: every tick in order, at once. `clock` and `sleep` are for tests."""
        self._fps = fps
        self._free = free
        self._clock, self._sleep = clock, sleep
        self.skipped = 0
        self.restart()

    def restart(self) -> None:
        self._start = self._clock()
        self._next = 0

    def wait(self, timeout: float) -> int | None:
        """The number of the next tick when it is due; None if that is more than `timeout` seconds away."""
        if not self._free:
            left = (self._start + self._next * NS / self._fps - self._clock()) / NS
            if left > timeout:
                self._sleep(max(0.0, timeout))
                return None
            if left > 0:
                self._sleep(left)
            current = int((self._clock() - self._start) * self._fps / NS)
            if current > self._next:
                self.skipped += current - self._next
                self._next = current
        tick = self._next
        self._next += 1
        return tick
