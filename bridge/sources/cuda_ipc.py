"""Frames that a program on this machine hands over on the graphics card: `cuda-ipc[?name=livelatent-in]`.

Its ring tells where each picture lies; one copy brings it from there to us. The sender's own thread is spared the
download, which is what this driver is for. As long as that can be done here the ring is told so; where it can't, the
sender puts its pictures into the ring itself, as for `shm`.
"""

from __future__ import annotations

import time

from bridge.clock import MS, now_ns
from bridge.context import Context
from bridge.cuda import Card, Driver, driver
from bridge.drivers import DriverSpec
from bridge.errors import DriverError
from bridge.frame import Pixels
from bridge.metrics import Metrics
from bridge.parcel import SPARE, Parcel, blank, unseal, upright
from bridge.ring import RingFrame, RingReader
from bridge.sinks.shm import ring_name
from bridge.sources.shm import DEFAULT_NAME, ShmSource

require = driver
"""For the doctor: whether this driver has what it needs."""
_PATIENCE_NS = 200 * MS
"""For a picture that is announced to arrive on the card."""
_LOOK_S = 0.0002


class CudaIpcSource(ShmSource):
    """Follows the ring as `shm` does, and keeps the sender's allocation open while its pictures lie there."""

    def __init__(self, metrics: Metrics, name: str = DEFAULT_NAME, cuda: Driver | None = None) -> None:
        """`cuda` is for tests: a driver over a fake library."""
        super().__init__(metrics, name)
        self._cuda = cuda
        self._card: Card | None = None
        self._handle, self._start = b"", 0
        self._events: dict[bytes, int] = {}
        self._refusal, self._refused_reign = "", 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> CudaIpcSource:
        return cls(context.metrics, **spec.take(name=ring_name))

    def _greet(self, ring: RingReader) -> None:
        if self._refusal and ring.reign != self._refused_reign:
            self._refusal = ""
        try:
            self._cuda = self._cuda or driver()
        except DriverError as error:
            self._refuse(ring, str(error))
        if not self._refusal:
            ring.reach()

    def _refuse(self, ring: RingReader, why: str) -> None:
        """From now on pixels, until another writer comes."""
        self._refusal, self._refused_reign = why, ring.reign
        ring.unreach()

    def _pixels(self, item: RingFrame) -> Pixels | None:
        ring, card = self._ring, self._card
        if not item.blob or ring is None:
            return super()._pixels(item)
        parcel = unseal(item.blob)
        pixels = blank(parcel)
        try:
            card = self._reach(parcel)
            if not self._arrived(card, parcel):
                return None
            card.download(self._start + parcel.at, pixels)
        except DriverError as error:
            self._leave()
            self._refuse(ring, str(error))
            return None
        # The sender writes into the same place again only after it has published SPARE more, or said goodbye.
        whole = ring.newest <= item.number + SPARE and not ring.finished
        return upright(pixels, parcel) if whole else None

    def _arrived(self, card: Card, parcel: Parcel) -> bool:
        """Wait for the sender's own copy to be done; False when it takes too long."""
        if not parcel.event:
            return True
        if parcel.event not in self._events:
            self._events[parcel.event] = card.listen(parcel.event)
        until = now_ns() + _PATIENCE_NS
        while not card.happened(self._events[parcel.event]):
            if now_ns() > until:
                return False
            time.sleep(_LOOK_S)
        return True

    def _reach(self, parcel: Parcel) -> Card:
        """The card that it lies on, with its allocation open."""
        card = self._card
        if card is None or card.uuid != parcel.card:
            self._leave()
            self._cuda = self._cuda or driver()
            card = self._card = self._cuda.card(parcel.card)
        if parcel.handle != self._handle:
            self._shut()
            self._start = card.open(parcel.handle)
            self._handle = parcel.handle
        return card

    def _shut(self) -> None:
        handle, self._handle = self._handle, b""
        events, self._events = self._events, {}
        if self._card is not None:
            for event in events.values():
                self._card.forget(event)
            if handle:
                self._card.shut(self._start)

    def _leave(self) -> None:
        self._shut()
        card, self._card = self._card, None
        if card is not None:
            card.close()

    def _detach(self) -> None:
        if self._ring is not None:
            self._ring.unreach()
        super()._detach()
        self._leave()

    def describe(self) -> str:
        if self._refusal:
            return f"{super().describe()} (not over the graphics card: {self._refusal})"
        return super().describe().replace("shared memory", "graphics memory")
