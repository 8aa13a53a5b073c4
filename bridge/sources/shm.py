"""Frames out of shared memory that any program on this machine writes: `shm[?name=livelatent-in]`.

Nothing portable wakes a reader of shared memory, so it looks every half millisecond: a look costs about 0.3 µs, the
wake-up the rest, together some 3 % of a core, and a frame waits 0.3 ms on average.
"""

from __future__ import annotations

import time

from bridge.clock import MS, NS, from_seconds, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import SourceError, WireError
from bridge.frame import Frame, Pixels, Stamps
from bridge.metrics import Metrics
from bridge.ring import RingFrame, RingReader
from bridge.sinks.shm import ring_name
from bridge.sources.freshness import Freshness, capture_stamp

DEFAULT_NAME = "livelatent-in"
_LOOK_NS = 50 * MS
_CHECK_NS = 200 * MS
_FRESH_S = 1.0
_PAUSE_S = 0.001
"""After a broken frame, so that a sender of nothing else does not cost a core."""


class ShmSource:
    """Reads the Ring of docs/wire.md. The writer may start, stop, crash and come back at any time."""

    def __init__(self, metrics: Metrics, name: str = DEFAULT_NAME) -> None:
        self._metrics = metrics
        self._name = name
        self._ring: RingReader | None = None
        self._freshness = Freshness(metrics)
        self._seq = 0
        self._is_open = False
        self._checked_ns = 0
        self._problem = ""

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> ShmSource:
        return cls(context.metrics, **spec.take(name=ring_name))

    def open(self) -> None:
        """Always succeeds: a writer that is not there yet is waited for in `read`."""
        self._is_open = True
        self._attach()

    def read(self, timeout: float) -> Frame | None:
        if not self._is_open:
            raise SourceError("the shared-memory source is not open")
        deadline = now_ns() + from_seconds(timeout)
        while True:
            frame = self._try_until(min(deadline, now_ns() + _LOOK_NS))
            if frame is not None:
                return frame
            self._freshness.missed()
            self._follow()
            if now_ns() >= deadline:
                return None

    def _try_until(self, until_ns: int) -> Frame | None:
        """A frame of the attached ring; None at `until_ns`, or when there is no ring to look at."""
        ring = self._ring
        if ring is None:
            time.sleep(max(0, until_ns - now_ns()) / NS)
            return None
        self._greet(ring)
        while ring.wait((until_ns - now_ns()) / NS):
            try:
                item = ring.read()
                pixels = None if item is None else self._pixels(item)
            except WireError as error:
                self._metrics.count("source.rejected")
                self._problem = str(error)
                time.sleep(_PAUSE_S)
                item = None
            if item is not None and pixels is not None:
                return self._accept(item.frame, pixels)
            if now_ns() >= until_ns:
                break
        return None

    def _greet(self, ring: RingReader) -> None:
        """What the ring's writer is told, many times a second; for drivers that are more than this."""

    def _pixels(self, item: RingFrame) -> Pixels | None:
        """The picture; None when it was overwritten meanwhile. WireError for a broken one."""
        return item.frame.pixels

    def _accept(self, sent: Frame, pixels: Pixels) -> Frame:
        self._problem = ""
        stamps = Stamps(captured=capture_stamp(sent.stamps.captured))
        frame = Frame(pixels, self._seq, stamps, sent.media_ns)
        self._freshness.arrived(pixels, f"{frame.width}x{frame.height} {frame.format}")
        self._seq += 1
        return frame

    def _follow(self) -> None:
        """Go where the name leads now: the writer may have made a new segment, or removed the old one."""
        if self._ring is not None and now_ns() - self._checked_ns < _CHECK_NS:
            return
        if self._ring is not None and (self._ring.finished or not self._ring.named()):
            self._detach()
        if self._ring is None:
            self._attach()
        self._checked_ns = now_ns()

    def _attach(self) -> None:
        try:
            ring = RingReader(self._name)
        except FileNotFoundError:
            return
        except WireError as error:
            self._problem = str(error)
            return
        if ring.finished:
            ring.close()
            return
        if not ring.writer_alive(_FRESH_S):
            ring.skip()
        self._ring = ring
        self._greet(ring)

    def _detach(self) -> None:
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()

    def close(self) -> None:
        self._is_open = False
        self._detach()

    def describe(self) -> str:
        where = f"shared memory {self._name}"
        if self._problem:
            return f"{where}: {self._problem}"
        if self._ring is None:
            return f"{where}: waiting for a writer ({self._freshness.describe()})"
        return f"{where}: {self._freshness.describe()}"
