"""Frames out of the graphics card's memory, from a program on the same card: `cuda-ipc[?name=livelatent-cuda-in]`.

Its ring tells where each picture lies; one copy brings it from there to us. The sender's own thread is spared the
download, which is what this driver is for.
"""

from __future__ import annotations

from bridge.context import Context
from bridge.cuda import Card, Driver, driver
from bridge.drivers import DriverSpec
from bridge.errors import DriverError, SourceError
from bridge.frame import Pixels
from bridge.metrics import Metrics
from bridge.parcel import SPARE, Parcel, blank, unseal
from bridge.ring import RingFrame
from bridge.sinks.shm import ring_name
from bridge.sources.shm import ShmSource

require = driver
"""For the doctor: whether this driver has what it needs."""
DEFAULT_NAME = "livelatent-cuda-in"


class CudaIpcSource(ShmSource):
    """Follows the ring as `shm` does, and keeps the sender's allocation open while its pictures lie there."""

    def __init__(self, metrics: Metrics, name: str = DEFAULT_NAME, cuda: Driver | None = None) -> None:
        """`cuda` is for tests: a driver over a fake library."""
        super().__init__(metrics, name)
        self._cuda = cuda or driver()
        self._card: Card | None = None
        self._handle, self._start = b"", 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> CudaIpcSource:
        return cls(context.metrics, **spec.take(name=ring_name))

    def _pixels(self, item: RingFrame) -> Pixels | None:
        parcel = unseal(item.blob)
        pixels = blank(parcel)
        try:
            self._reach(parcel).download(self._start + parcel.at, pixels)
        except DriverError as error:
            self._shut()
            raise SourceError(f"{self._name}: {error}") from error
        ring = self._ring
        # The sender writes into the same place again only after it has published SPARE more, or said goodbye.
        whole = ring is not None and ring.newest <= item.number + SPARE and not ring.finished
        return pixels if whole else None

    def _reach(self, parcel: Parcel) -> Card:
        """The card that it lies on, with its allocation open."""
        card = self._card
        if card is None or card.uuid != parcel.card:
            self._leave()
            card = self._card = self._cuda.card(parcel.card)
        if parcel.handle != self._handle:
            self._shut()
            self._start = card.open(parcel.handle)
            self._handle = parcel.handle
        return card

    def _shut(self) -> None:
        handle, self._handle = self._handle, b""
        if handle and self._card is not None:
            self._card.shut(self._start)

    def _leave(self) -> None:
        self._shut()
        card, self._card = self._card, None
        if card is not None:
            card.close()

    def _detach(self) -> None:
        super()._detach()
        self._leave()

    def describe(self) -> str:
        return super().describe().replace("shared memory", "graphics memory")
