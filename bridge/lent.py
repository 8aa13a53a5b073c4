"""A worker's output ring as the painter sees it: slots that pictures are put into, by a card for one."""

from __future__ import annotations

from bridge.frame import Frame, Pixels
from bridge.ring import RingWriter
from bridge.ring_segment import Place


class LentRing:
    """Implements pipelines.spec.Places."""

    def __init__(self, ring: RingWriter) -> None:
        self._ring = ring
        self._open: dict[int, Place] = {}
        """By address."""

    def open(self, shape: tuple[int, ...]) -> Pixels:
        place = self._ring.open(shape)
        self._open[place.pixels.ctypes.data] = place
        return place.pixels

    def drop(self, pixels: Pixels) -> None:
        self._ring.drop(self._open.pop(pixels.ctypes.data))

    def write(self, frame: Frame, epoch: int) -> None:
        """Publish a picture: where it lies if that was opened here, else a copy. Raises WireError."""
        place = self._open.pop(frame.pixels.ctypes.data, None)
        if place is None:
            self._ring.write(frame, epoch=epoch)
        else:
            self._ring.publish(place, frame, epoch=epoch)
