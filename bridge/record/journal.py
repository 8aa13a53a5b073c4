"""What was fed to the worker lately, to be found again when its picture comes back."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from bridge.frame import Frame
from pipelines.params import Params

MAX_ENTRIES = 1024
BYTES = 64 << 20
"""Of input pictures that are kept; a worker takes the newest, so a few are enough unless it is very slow."""
BYTES_FOR_INPUT = 512 << 20
"""The same while a recording keeps the input: one that is missing can't be replayed."""


class Fed(NamedTuple):
    """One frame on its way."""

    frame: Frame | None
    """None where it had to be let go."""
    params: Params


class Journal:
    """Thread-safe; holds on to no more than `most_bytes` of pixels."""

    def __init__(self) -> None:
        self.most_bytes = BYTES
        self._lock = threading.Lock()
        self._fed: OrderedDict[int, Fed] = OrderedDict()
        self._bytes = 0

    def note(self, frame: Frame, params: Params) -> None:
        """It is about to be fed, at `frame.stamps.fed`."""
        with self._lock:
            self._fed[frame.stamps.fed] = Fed(frame, params)
            self._bytes += frame.pixels.nbytes
            while len(self._fed) > MAX_ENTRIES:
                self._forget(next(iter(self._fed)))
            if self._bytes > self.most_bytes:
                self._lighten()

    def find(self, fed_ns: int) -> Fed | None:
        """What was fed at that time. All before it is forgotten; it is not, as another worker may paint it again."""
        with self._lock:
            found = self._fed.get(fed_ns)
            if found is not None:
                while (oldest := next(iter(self._fed))) != fed_ns:
                    self._forget(oldest)
            return found

    def _forget(self, at: int) -> None:
        frame = self._fed.pop(at).frame
        self._bytes -= frame.pixels.nbytes if frame is not None else 0

    def _lighten(self) -> None:
        """Let go of the oldest pictures, all but the newest, and keep what they were fed with."""
        for at, (frame, params) in list(self._fed.items())[:-1]:
            if self._bytes <= self.most_bytes:
                return
            if frame is not None:
                self._bytes -= frame.pixels.nbytes
                self._fed[at] = Fed(None, params)
