"""A ring's segment as both ends see it: mapped, checked, closed; and whether its writer lives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bridge.clock import NS, from_seconds, now_ns
from bridge.errors import WireError
from bridge.frame import Pixels
from bridge.ring_layout import CLOSED, Geometry, Word
from bridge.shm import Segment, process_alive

REACH_NS = NS
"""So long a reader's word holds that it takes pictures from a graphics card: one that was killed can't take it back."""


class Place(NamedTuple):
    """A slot that is being filled."""

    slot: int
    lock: int
    pixels: Pixels
    """In the ring, from the beginning of a page; mapped to the end of its last one."""


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

    @property
    def reign(self) -> int:
        """How many writers there have been."""
        return int(self._look()[Word.GENERATION])

    def reach(self, card: int = 0) -> None:
        """A reader's word that a picture may lie on this graphics card (0: on any) instead of in the ring."""
        words = self._look()
        words[Word.CARD] = card
        words[Word.REACH] = now_ns()

    def unreach(self) -> None:
        """Take it back: the pictures are to come through the ring."""
        self._look()[Word.REACH] = 0

    def reached(self) -> int | None:
        """For the writer: the card on which its reader takes pictures (0: any); None where none does."""
        words = self._look()
        return int(words[Word.CARD]) if 0 <= now_ns() - words[Word.REACH] < REACH_NS else None

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
