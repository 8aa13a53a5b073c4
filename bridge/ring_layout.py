"""The bytes of a ring, as docs/wire.md specifies them: its header, its slots' headers, and what is refused."""

from __future__ import annotations

import secrets
import struct
import threading
from typing import NamedTuple

import numpy as np

from bridge.errors import WireError
from bridge.frame import MAX_PIXELS, Frame, Stamps, check_size

MAGIC = int.from_bytes(b"LL-RING\n", "little")
PROTOCOL = 1
SLOTS = 3
MAX_BLOB = 16 * 1024
DEFAULT_CAPACITY = MAX_PIXELS * 4

PAGE = 4096
BLOB_AT = 128
PIXELS_AT = 5 * PAGE
_GEOMETRY = struct.Struct("<7Q")
_FIELDS = struct.Struct("<14q")


class Word:
    """Which 8-byte word of the segment holds what changes while it is used."""

    GENERATION = 8
    """How many writers there have been."""
    NEWEST = 9
    """Number of the newest frame << 8 | its slot; 0 before the first."""
    STATE = 10
    PID = 11
    BEAT = 12
    """When the writer opened it or last wrote, in `clock.now_ns`."""
    REACH = 13
    """When a reader that takes pictures from a graphics card last looked, in `clock.now_ns`; 0 for no such reader."""
    CARD = 14
    """On which card: the first eight bytes of its UUID; 0 for any."""


OPEN, CLOSED = 1, 2


def fence() -> None:
    """Let no load or store move across this line.

    x86 keeps loads in order and stores in order, which is all that the lock words need. ARM keeps neither: there the
    odd lock word must be out before the first pixel, the last pixel before the even one, and a reader's copy must lie
    between its two looks at the word. Releasing a lock and taking it again orders all that: what came before can't
    sink below the release, what follows can't rise above the acquire, and the two keep their order.
    """
    lock = threading.Lock()
    lock.acquire()
    lock.release()
    lock.acquire()


class Geometry(NamedTuple):
    """The first words of a segment: written once, before anyone else can see it."""

    magic: int
    protocol: int
    capacity: int
    """Bytes of pixels that a slot can hold."""
    slots: int
    stride: int
    """Bytes from one slot to the next."""
    first: int
    """Where slot 0 begins."""
    identity: int
    """Random: tells a segment from another one of the same name."""

    @classmethod
    def plan(cls, capacity: int) -> Geometry:
        if not 0 < capacity <= DEFAULT_CAPACITY:
            raise WireError(f"a ring slot holds 1 to {DEFAULT_CAPACITY} bytes of pixels, not {capacity}")
        stride = PIXELS_AT + -(-capacity // PAGE) * PAGE
        return cls(MAGIC, PROTOCOL, capacity, SLOTS, stride, PAGE, secrets.randbits(64) | 1)

    @classmethod
    def parse(cls, buf: memoryview) -> Geometry:
        """Raises WireError unless the whole ring fits into `buf`."""
        if len(buf) < PAGE:
            raise WireError("the segment is too small for a ring")
        g = cls._make(_GEOMETRY.unpack_from(buf))
        if g.magic != MAGIC:
            raise WireError("the segment is not a livelatent ring, or not yet")
        if g.protocol != PROTOCOL:
            raise WireError(f"the ring speaks protocol {g.protocol}, this is {PROTOCOL}")
        if not (0 < g.capacity <= DEFAULT_CAPACITY and 2 <= g.slots <= 16 and PAGE <= g.first <= len(buf)):
            raise WireError("the ring's header is out of range")
        if g.first % 8 or g.stride % 8 or g.stride < PIXELS_AT + g.capacity or g.first + g.slots * g.stride > len(buf):
            raise WireError("the ring's slots do not fit its segment")
        return g

    @property
    def size(self) -> int:
        return self.first + self.slots * self.stride

    def write(self, buf: memoryview) -> None:
        """The magic word last: who sees it sees a whole header."""
        _GEOMETRY.pack_into(buf, 0, 0, *self[1:])
        fence()
        buf[:8] = self.magic.to_bytes(8, "little")

    def slot_at(self, index: int) -> int:
        return self.first + index * self.stride


class SlotHeader(NamedTuple):
    """What stands behind a slot's lock word, in this order, 8 bytes each."""

    number: int
    seq: int
    epoch: int
    width: int
    height: int
    channels: int
    media_ns: int
    version: int
    captured: int
    fed: int
    taken: int
    done: int
    blob_length: int
    pixels_at: int
    """From the slot's first byte."""

    @classmethod
    def of(cls, frame: Frame, number: int, epoch: int, blob_length: int) -> SlotHeader:
        size = (frame.width, frame.height, frame.channels)
        return cls(
            number, frame.seq, epoch, *size, frame.media_ns, frame.version, *frame.stamps, blob_length, PIXELS_AT
        )

    def write(self, buf: memoryview, slot_at: int) -> None:
        try:
            _FIELDS.pack_into(buf, slot_at + 8, *self)
        except struct.error as error:
            raise WireError(f"a number of this frame does not fit 64 bits: {error}") from error

    @classmethod
    def parse(cls, buf: memoryview, slot_at: int, geometry: Geometry) -> SlotHeader:
        """Raises WireError unless blob and picture lie within the slot."""
        h = cls._make(_FIELDS.unpack_from(buf, slot_at + 8))
        if min(h.number, h.seq, h.epoch, h.version, *h.stamps) < 0 or h.media_ns < -1:
            raise WireError("the slot's numbers make no sense")
        problem = check_size(h.width, h.height, h.channels)
        if problem:
            raise WireError(problem)
        if not (0 <= h.blob_length <= MAX_BLOB and h.n_pixels <= geometry.capacity):
            raise WireError("the slot's picture or blob is larger than a slot holds")
        if not BLOB_AT + h.blob_length <= h.pixels_at <= geometry.stride - h.n_pixels:
            raise WireError("the slot's picture lies outside the slot")
        return h

    @property
    def n_pixels(self) -> int:
        """Bytes of picture."""
        return self.width * self.height * self.channels

    @property
    def stamps(self) -> Stamps:
        return Stamps(self.captured, self.fed, self.taken, self.done)


def check_frame(frame: Frame, blob: bytes, capacity: int) -> None:
    """Raises WireError for a frame that no slot of this capacity takes."""
    pixels = frame.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise WireError(f"a frame is uint8 (height, width, channels), not {pixels.dtype} {pixels.shape}")
    problem = check_size(frame.width, frame.height, frame.channels)
    if problem:
        raise WireError(problem)
    if pixels.size > capacity:
        raise WireError(f"{frame.width}x{frame.height} {frame.format} is larger than the ring's slots")
    if len(blob) > MAX_BLOB:
        raise WireError(f"a blob of {len(blob)} bytes; {MAX_BLOB} fit")
