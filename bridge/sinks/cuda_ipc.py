"""Finished frames in the memory of the graphics card, for a program on the same one: `cuda-ipc[?name=NAME]`.

A ring of docs/wire.md tells where each picture lies; the picture itself does not leave the card. What was shared once
is kept for as long as the process lives: to free memory that another process has open is undefined, and nobody tells us
who has.
"""

from __future__ import annotations

import numpy as np

from bridge.context import Context
from bridge.cuda import Card, Driver, driver
from bridge.drivers import DriverSpec
from bridge.errors import DriverError, SinkError
from bridge.frame import Frame
from bridge.parcel import SLOTS, Parcel, seal
from bridge.sinks.shm import ShmSink, ring_name

require = driver
"""For the doctor: whether this driver has what it needs."""
DEFAULT_NAME = "livelatent-cuda-out"
_LEAST = 1 << 20
"""Bytes of a place at first: 512x512 RGBA. It doubles when it must, so that little is left behind."""


class CudaIpcSink(ShmSink):
    """Uploads each frame into the next of four places and says so in the ring."""

    def __init__(self, name: str = DEFAULT_NAME, cuda: Driver | None = None) -> None:
        """`cuda` is for tests: a driver over a fake library."""
        super().__init__(name)
        self._cuda = cuda or driver()
        self._card: Card | None = None
        self._start = self._place = self._count = 0
        self._handle = b""

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> CudaIpcSink:
        return cls(**spec.take(name=ring_name))

    def _wrap(self, frame: Frame) -> tuple[Frame, bytes]:
        pixels = np.ascontiguousarray(frame.pixels)
        try:
            card = self._card = self._card or self._cuda.card()
            if pixels.nbytes > self._place:
                self._grow(card, pixels.nbytes)
            at = self._count % SLOTS * self._place
            card.upload(pixels, self._start + at)
        except DriverError as error:
            raise SinkError(str(error)) from error
        self._count += 1
        return seal(frame, Parcel(card.uuid, self._handle, at, frame.width, frame.height, frame.channels))

    def _grow(self, card: Card, size: int) -> None:
        place = max(self._place, _LEAST)
        while place < size:
            place *= 2
        start = card.alloc(place * SLOTS)
        self._handle, self._start, self._place = card.share(start), start, place

    def describe(self) -> str:
        return super().describe().replace("shared memory", "graphics memory")
