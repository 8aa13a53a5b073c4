"""Frames between processes: one writer, any number of readers, three slots in shared memory, newest wins.

Every slot begins with a lock word that is odd while the slot is written. A reader takes the lock word, copies, and
takes it again: unchanged and even means that the copy is whole. Nobody ever waits for anybody, so a process that is
killed at any instruction leaves nothing locked: the next writer begins a new generation and reclaims the odd slot.
The generation is part of each lock word, and readers pass over slots of an older one.

The bytes are specified in docs/wire.md. Whatever is read from the memory is checked as if a stranger had written it.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bridge.clock import from_seconds, now_ns
from bridge.errors import WireError
from bridge.frame import Frame
from bridge.ring_layout import (
    BLOB_AT,
    CLOSED,
    DEFAULT_CAPACITY,
    OPEN,
    PAGE,
    PIXELS_AT,
    Geometry,
    SlotHeader,
    Word,
    check_frame,
    fence,
)
from bridge.ring_segment import MappedRing, Place
from bridge.shm import Segment

_TRIES = 8
_HALF = 0xFFFF_FFFF


class RingFrame(NamedTuple):
    """What a reader gets."""

    frame: Frame
    blob: bytes
    epoch: int
    """The number that the writer passed with it."""
    number: int
    """Counts up by one per written frame, across writers."""


class RingWriter(MappedRing):
    """The one end that writes. Not for two threads at once."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment)
        words = self._words
        newest = words[Word.NEWEST]
        if newest >> 62:
            super().close()
            raise WireError("the ring's header was overwritten")
        self._number = newest >> 8
        self._index = self._free_slot(newest & 0xFF)
        self._reserved = [0] * self._geometry.slots
        self._open: set[int] = set()
        self.generation = (words[Word.GENERATION] + 1) & _HALF or 1
        words[Word.GENERATION] = self.generation
        words[Word.PID] = os.getpid()
        words[Word.BEAT] = now_ns()
        words[Word.STATE] = OPEN

    @classmethod
    def create(cls, capacity: int = DEFAULT_CAPACITY, name: str | None = None) -> RingWriter:
        """A new ring whose slots hold `capacity` bytes of pixels. It belongs to this process, which may `unlink` it.

        Memory is used only as far as frames reach. Raises FileExistsError when the name is taken, WireError when there
        is no room.
        """
        geometry = Geometry.plan(capacity)
        segment = Segment.create(geometry.size, name)
        try:
            segment.reserve(0, PAGE)
        except WireError:
            segment.close()
            segment.unlink()
            raise
        geometry.write(segment.buf)
        return cls(segment)

    @classmethod
    def attach(cls, name: str, adopt: bool = False) -> RingWriter:
        """Take over a ring from a writer that is gone; one that still lives gets a WireError from its next write.

        With `adopt` this process owns the segment from now on. Raises FileNotFoundError and WireError.
        """
        ring = cls(Segment.attach(name))
        if adopt:
            ring._segment.adopt()
        return ring

    def write(self, frame: Frame, blob: bytes = b"", epoch: int = 0) -> None:
        """Publish one frame; `pixels` may have any strides, and are copied once.

        Raises WireError when the frame breaks the protocol or is too large, when another writer has taken over, and
        when the machine has no shared memory left.
        """
        self._look()
        check_frame(frame, blob, self.capacity)
        place = self.open(frame.pixels.shape)
        try:
            self._fill(place, frame)
            self.publish(place, frame, blob, epoch)
        finally:
            self.drop(place)

    def _fill(self, place: Place, frame: Frame) -> None:
        np.copyto(place.pixels, frame.pixels)

    def open(self, shape: tuple[int, ...]) -> Place:
        """A slot for a picture, uint8 of this shape, that is put into it by other hands: no reader looks at it until it
        is published. As many may be open as a ring has slots but one. Raises as `write` does."""
        words = self._look()
        size = math.prod(shape)
        if size > self.capacity:
            raise WireError(f"a picture of {size} bytes is larger than the ring's slots")
        self._still_mine()
        slots = self._geometry.slots
        if len(self._open) + 1 >= slots:
            raise WireError("the ring has no slot left to open")
        index = next(i % slots for i in range(self._index, self._index + slots) if i % slots not in self._open)
        at = self._geometry.slot_at(index)
        self._reserve(index, size)
        # (n + 1) | 1 is a fresh odd number even where a killed writer left an odd one.
        lock = self.generation << 32 | ((words[at // 8] & _HALF) + 1 | 1) & _HALF
        words[at // 8] = lock
        fence()
        self._open.add(index)
        self._index = (index + 1) % self._geometry.slots
        start = at + PIXELS_AT
        return Place(index, lock, self._bytes[start : start + size].reshape(shape))

    def publish(self, place: Place, frame: Frame, blob: bytes = b"", epoch: int = 0) -> None:
        """What was put into `place`, whole and done with; `frame` says what it is."""
        words, at = self._look(), self._geometry.slot_at(place.slot)
        check_frame(frame, blob, self.capacity)
        SlotHeader.of(frame, self._number + 1, epoch, len(blob)).write(self._segment.buf, at)
        self._segment.buf[at + BLOB_AT : at + BLOB_AT + len(blob)] = blob
        fence()
        self._still_mine()
        self.drop(place)
        words[at // 8] = self.generation << 32 | (place.lock + 1) & _HALF
        fence()
        self._number += 1
        words[Word.NEWEST] = self._number << 8 | place.slot
        words[Word.BEAT] = now_ns()

    def drop(self, place: Place) -> None:
        """Nothing was put there that anybody should see, and nobody is at work on it any more."""
        self._open.discard(place.slot)

    def _reserve(self, index: int, n_pixels: int) -> None:
        length = PIXELS_AT + n_pixels
        if length > self._reserved[index]:
            self._segment.reserve(self._geometry.slot_at(index), length)
            self._reserved[index] = length

    @property
    def current(self) -> bool:
        """Whether no other writer has taken over."""
        return not self._closed and bool(self._words[Word.GENERATION] == self.generation)

    def _still_mine(self) -> None:
        if not self.current:
            raise WireError("another writer has taken over this ring")

    def _free_slot(self, newest: int) -> int:
        """The slot to begin with: not the newest, nor one that the former writer was about to fill."""
        slots = self._geometry.slots
        order = [(newest + 1 + i) % slots for i in range(slots - 1)]
        return next((i for i in order if not self._words[self._geometry.slot_at(i) // 8] & 1), order[0])

    def close(self) -> None:
        """Say goodbye to the readers and unmap; safe to call twice."""
        if self.current:
            self._words[Word.STATE] = CLOSED
        super().close()

    def unlink(self) -> None:
        """Remove the ring's name, as its owner and if it is still this ring's; who has it mapped keeps the memory."""
        if self.named():
            self._segment.unlink()
        self._segment.disown()

    def disown(self) -> None:
        """Leave the name to a writer that has taken over."""
        self._segment.disown()


@dataclass(frozen=True, slots=True)
class RingView:
    """A slot looked at in place: `valid()` after the last look tells whether it was overwritten meanwhile."""

    item: RingFrame
    """Its pixels are read-only and lie in the ring."""
    _reader: RingReader
    _lock_at: int
    _lock: int

    def valid(self) -> bool:
        return self._reader._unchanged(self._lock_at, self._lock)


class RingReader(MappedRing):
    """An end that reads; there may be many, and the writer knows none of them. Not for two threads at once."""

    def __init__(self, name: str) -> None:
        """Raises FileNotFoundError when there is no such ring, WireError when it is something else."""
        super().__init__(Segment.attach(name))
        self._seen = 0
        self.torn = 0
        """Looks that the writer overtook, each followed by another try."""

    def read(self, after: int | None = None) -> RingFrame | None:
        """A copy of the newest frame if there is one newer than the last one read here, or than number `after`.

        Never blocks. None also when the writer overtook every try. Raises WireError, once per broken frame.
        """
        for _ in range(_TRIES):
            view = self.view(after)
            if view is None:
                return None
            frame = view.item.frame
            copied = Frame(frame.pixels.copy(), frame.seq, frame.stamps, frame.media_ns, frame.version)
            if view.valid():
                return view.item._replace(frame=copied)
            self.torn += 1
            self._seen = 0
        return None

    def view(self, after: int | None = None) -> RingView | None:
        """As `read`, without the copy: use the pixels, then ask `valid()` before trusting what came of them."""
        words = self._look()
        for _ in range(_TRIES):
            newest = words[Word.NEWEST]
            if newest >> 8 == 0 or (newest == self._seen if after is None else newest >> 8 <= after):
                return None
            fence()
            view = self._peek(newest)
            if view is not None:
                self._seen = newest
                return view
        return None

    def wait(self, timeout: float, poll_s: float = 0.0005) -> bool:
        """Whether something unread is there, looking every `poll_s` for up to `timeout` seconds."""
        deadline = now_ns() + from_seconds(timeout)
        words = self._look()
        while words[Word.NEWEST] == self._seen or words[Word.NEWEST] >> 8 == 0:
            left = deadline - now_ns()
            if left <= 0:
                return False
            time.sleep(min(poll_s, left * 1e-9))
        return True

    def skip(self) -> None:
        """Take what is there now as read."""
        self._seen = self._look()[Word.NEWEST]

    def _peek(self, newest: int) -> RingView | None:
        """The slot that `newest` names; None when the writer has come round to it again, or was replaced."""
        words, g = self._words, self._geometry
        if Geometry.parse(self._segment.buf) != g or newest & 0xFF >= g.slots:
            self._seen = newest
            raise WireError("the ring's header was overwritten")
        at = self._geometry.slot_at(newest & 0xFF)
        lock = words[at // 8]
        if lock >> 32 != words[Word.GENERATION]:
            self._seen = newest
            return None
        if lock & 1:
            fence()
            if words[Word.NEWEST] == newest:
                self._seen = newest
                raise WireError("the ring's newest slot is being written")
            return None
        fence()
        try:
            return RingView(self._item(at, newest >> 8), self, at // 8, lock)
        except WireError:
            # A reader that was kept from running may find a later frame here, whole: the writer has come round.
            if words[Word.NEWEST] != newest or not self._unchanged(at // 8, lock):
                return None
            self._seen = newest
            raise

    def _item(self, at: int, number: int) -> RingFrame:
        h = SlotHeader.parse(self._segment.buf, at, self._geometry)
        if h.number != number:
            raise WireError("the ring's header names another frame than its slot")
        start = at + h.pixels_at
        pixels = self._bytes[start : start + h.n_pixels].reshape(h.height, h.width, h.channels)
        pixels.flags.writeable = False
        blob = bytes(self._segment.buf[at + BLOB_AT : at + BLOB_AT + h.blob_length])
        return RingFrame(Frame(pixels, h.seq, h.stamps, h.media_ns, h.version), blob, h.epoch, number)

    def _unchanged(self, lock_at: int, lock: int) -> bool:
        fence()
        return not self._closed and bool(self._words[lock_at] == lock)
