"""A stand-in for cv2.VideoCapture that follows a script and does not forgive misuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from bridge.frame import Pixels

BLOCK = "block"
"""Hang in read until `unblock` is set."""
FREEZE = "freeze"
"""Give the picture before, for ever."""
VANISH = "vanish"
"""Fail at every read from now on."""

Step = str | tuple[int, int]


class FakeCapture:
    """Each read takes one step of `script`: a size gives a fresh noisy picture. The last step repeats."""

    def __init__(self, script: Iterable[Step], opens: bool = True, period_s: float = 0.01) -> None:
        self.script = list(script)
        self.opens, self.period_s = opens, period_s
        self.unblock = threading.Event()
        self.misuse: list[str] = []
        self.reads = 0
        self.released = False
        self._thread: int | None = None
        self._last: Pixels | None = None
        self._rng = np.random.default_rng(0)

    def isOpened(self) -> bool:
        self._check("isOpened")
        return self.opens

    def read(self) -> tuple[bool, Any]:
        self._check("read")
        if not self.opens:
            self._fail("read of a device that is not open")
        step = self.script[min(self.reads, len(self.script) - 1)]
        self.reads += 1
        time.sleep(self.period_s)
        if step == BLOCK:
            self.unblock.wait(30)
            return False, None
        if step == VANISH:
            return False, None
        if step != FREEZE:
            assert isinstance(step, tuple)
            self._last = self._rng.integers(0, 255, (step[1], step[0], 3), np.uint8)
        assert self._last is not None
        return True, self._last.copy()

    def release(self) -> None:
        self._check("release")
        self.released = True

    def _check(self, call: str) -> None:
        me = threading.get_ident()
        if self._thread is None:
            self._thread = me
        if me != self._thread:
            self._fail(f"{call} from a second thread")
        if self.released:
            self._fail(f"{call} after release")

    def _fail(self, what: str) -> None:
        self.misuse.append(what)
        raise AssertionError(what)
