"""Finished frames in the memory of the graphics card, for a program on the same one: `cuda-ipc[?name=NAME]`.

A ring of docs/wire.md tells where each picture lies; the picture itself does not leave the card. So it is while a
reader of the ring says that it takes pictures there. Until then, and when a call of the driver fails, the pictures go
into the ring itself, as with `shm`.

What was shared once is kept for as long as the process lives: to free memory that another process has open is
undefined, and nobody tells us who has.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from bridge.context import Context
from bridge.cuda import Card, Driver, driver
from bridge.drivers import DriverSpec
from bridge.errors import DriverError
from bridge.frame import Frame, Pixels
from bridge.parcel import SLOTS, Parcel, seal, textured
from bridge.ring import RingWriter
from bridge.sinks.shm import DEFAULT_NAME, ShmSink, ring_name

log = logging.getLogger("livelatent.sink")

require = driver
"""For the doctor: whether this driver has what it needs."""
_LEAST = 1 << 20
"""Bytes of a place at first: 512x512 RGBA. It doubles when it must, so that little is left behind."""


@dataclass(slots=True)
class _Shelf:
    """The places on one card."""

    card: Card
    start: int = 0
    place: int = 0
    """Bytes of each."""
    handle: bytes = b""

    def lay(self, pixels: Pixels, number: int) -> Parcel:
        """A texture's bytes into the place of this number. DriverError."""
        if pixels.nbytes > self.place:
            self._grow(pixels.nbytes)
        at = number % SLOTS * self.place
        self.card.upload(pixels, self.start + at)
        height, width, channels = pixels.shape
        return Parcel(self.card.uuid, self.handle, at, width, height, channels, "bgr", "bottom")

    def _grow(self, size: int) -> None:
        place = max(self.place, _LEAST)
        while place < size:
            place *= 2
        start = self.card.alloc(place * SLOTS)
        self.handle, self.start, self.place = self.card.share(start), start, place


class CudaIpcSink(ShmSink):
    """Uploads each frame into the next of four places and says so in the ring."""

    def __init__(self, name: str = DEFAULT_NAME, cuda: Driver | None = None) -> None:
        """`cuda` is for tests: a driver over a fake library."""
        super().__init__(name)
        self._cuda = cuda
        self._shelves: dict[int, _Shelf] = {}
        self._refusal = ""

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> CudaIpcSink:
        return cls(**spec.take(name=ring_name))

    def open(self) -> None:
        super().open()
        self._refusal = ""

    def _wrap(self, frame: Frame, ring: RingWriter) -> tuple[Frame, bytes]:
        wanted = ring.reached()
        if wanted is None or self._refusal:
            return frame, b""
        try:
            parcel = self._shelf(wanted).lay(textured(frame.pixels), ring.newest + 1)
        except DriverError as error:
            self._refusal = str(error)
            log.warning("%s", self.describe())
            return frame, b""
        return seal(frame, parcel)

    def _shelf(self, number: int) -> _Shelf:
        """Of the card whose UUID begins with these eight bytes; of the first for 0."""
        if number not in self._shelves:
            self._cuda = self._cuda or driver()
            card = self._cuda.card(number.to_bytes(8, "little").hex() if number else "")
            self._shelves[number] = _Shelf(card)
        return self._shelves[number]

    def describe(self) -> str:
        if self._refusal:
            return f"{super().describe()} (not over the graphics card: {self._refusal})"
        return super().describe().replace("shared memory", "graphics memory")
