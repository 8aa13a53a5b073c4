"""A ring's segment as both ends see it: mapped, checked, closed; and whether its writer lives."""

from __future__ import annotations

import numpy as np

from bridge.clock import from_seconds, now_ns
from bridge.errors import WireError
from bridge.frame import Pixels
from bridge.ring_layout import CLOSED, Geometry, Word
from bridge.shm import Segment, process_alive


class MappedRing:
    """The mapped segment, shared by both ends."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        try:
            self._geometry = Geometry.parse(segment.buf)
        except WireError:
            segment.close()
            raise
        # One aligned 8-byte load or store per item: what the lock words need.
        self._words = segment.buf[: len(segment.buf) // 8 * 8].cast("Q")
        self._bytes: Pixels = np.frombuffer(segment.buf, np.uint8)
        self._closed = False

    @property
    def name(self) -> str:
        return self._segment.name

    @property
    def capacity(self) -> int:
        return self._geometry.capacity

    @property
    def identity(self) -> int:
        return self._geometry.identity

    @property
    def newest(self) -> int:
        """Number of the frame that was published last; 0 before the first."""
        return int(self._look()[Word.NEWEST] >> 8)

    @property
    def finished(self) -> bool:
        """Whether the last writer said goodbye."""
        return bool(self._look()[Word.STATE] == CLOSED)

    def writer_alive(self, within_s: float) -> bool:
        """Whether the writer's process runs, has not said goodbye, and wrote or opened within this many seconds."""
        words = self._look()
        quiet_ns = abs(now_ns() - words[Word.BEAT])
        return not self.finished and quiet_ns < from_seconds(within_s) and process_alive(words[Word.PID])

    def named(self) -> bool:
        """Whether the name still leads to this ring: it may have been removed, or made anew by someone else."""
        try:
            found = MappedRing(Segment.attach(self.name))
        except (FileNotFoundError, WireError):
            return False
        found.close()
        return found.identity == self.identity

    def _look(self) -> memoryview:
        if self._closed:
            raise WireError("the ring is closed")
        return self._words

    def close(self) -> None:
        """Unmap. Safe to call twice, and while pictures from `view` are still around."""
        if self._closed:
            return
        self._closed = True
        self._words.release()
        self._bytes = np.empty(0, np.uint8)
        self._segment.close()
