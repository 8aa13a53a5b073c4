"""From a source to ring A: one thread owns the device, another feeds its newest frame with the current parameters."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from bridge.clock import now_ns
from bridge.drivers import Source
from bridge.errors import DriverError, SourceEnded, WireError
from bridge.frame import Frame
from bridge.metrics import Metrics
from bridge.preview import PreviewHub
from bridge.ring import RingWriter
from bridge.slot import LatestSlot
from bridge.trouble import Trouble
from bridge.turn import Turn
from pipelines.params import Params, pack

log = logging.getLogger("livelatent.source")

READ_S = 0.2
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between tries to open a source that is gone."""


class SourceThread:
    """Keeps a source open: a device that goes away is waited for, and nobody else waits with it."""

    def __init__(self, source: Source, metrics: Metrics, preview: PreviewHub, turn: Turn | None = None) -> None:
        """With `turn`, the next frame is read only when the picture of the last is written: none is skipped. A movie
        starts with the first worker (`ready`), so that its beginning is not played to nobody."""
        self.slot: LatestSlot[Frame] = LatestSlot()
        self.ready = threading.Event()
        self._turn = turn
        self.ended = threading.Event()
        self._source = source
        self._metrics = metrics
        self._preview = preview
        self._trouble = Trouble(metrics)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ll-source", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 2.0) -> None:
        """Stop reading. A device that blocks past the deadline is left to its (daemon) thread."""
        self._stop.set()
        self.slot.close()
        if self._thread.is_alive():
            self._thread.join(deadline_s)
        if self._thread.is_alive():
            log.warning("the source does not let go; left behind")

    def _run(self) -> None:
        tries = 0
        while getattr(self._source, "plays_once", False) and not self.ready.wait(READ_S) and not self._stop.is_set():
            pass
        while not self._stop.is_set():
            try:
                self._source.open()
                self._metrics.gauge("source", self._source.describe())
                while not self._stop.is_set():
                    if self._read():
                        tries = 0
                        self._trouble.over()
            except SourceEnded:
                log.info("the source has ended")
                self.ended.set()
                return
            except DriverError as error:
                self._metrics.count("source.errors")
                self._metrics.gauge("source", str(error))
                if self._trouble.say(str(error)):
                    log.warning("%s", error)
                self._stop.wait(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1
            finally:
                self._source.close()

    def _read(self) -> bool:
        frame = self._source.read(READ_S)
        if frame is None:
            self._metrics.gauge("source", self._source.describe())
            return False
        self._metrics.count("source.frames")
        if self._turn is not None:
            self._turn.begin()
        self.slot.put(frame)
        self._preview.publish("input", frame)
        if self._turn is not None:
            self._turn.wait(self._stop)
        return True


class Feeder:
    """Writes the newest frame and the parameters of this moment into ring A."""

    def __init__(
        self,
        slot: LatestSlot[Frame],
        ring: RingWriter,
        snapshot: Callable[[], Params],
        fed: Callable[[Params], None],
        metrics: Metrics,
        once: bool = False,
        feeding: Callable[[Frame, Params], None] = lambda frame, params: None,
    ) -> None:
        """`feeding(frame, params)` is called before each write, with the stamp of the feeding. `fed(params)` is called
        after it, and 60 times a second without one, so that a worker that took over from a dead one looks into the ring
        too. With `once`, no frame is written twice, whatever the parameters do."""
        self._slot = slot
        self._ring = ring
        self._snapshot = snapshot
        self._fed = fed
        self._metrics = metrics
        self._trouble = Trouble(metrics)
        self._once = once
        self._feeding = feeding
        self.newest_seq = -1
        """Number of the last frame written."""
        self._stop = threading.Event()
        self._last: Frame | None = None
        self._version = -1
        self._thread = threading.Thread(target=self._run, name="ll-feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._slot.close()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            frame = self._slot.take(1 / 60)
            params = self._snapshot()
            if frame is None:
                # A source that stands still must not hold up a slider: the last frame goes out with the new values.
                if self._last is None or self._once or params.version == self._version:
                    self._fed(params)
                    continue
                frame = self._last
            if params.pause:
                self._last = frame
                self._fed(params)
                continue
            self._write(frame, params)

    def _write(self, frame: Frame, params: Params) -> None:
        stamped = Frame(frame.pixels, frame.seq, frame.stamps._replace(fed=now_ns()), frame.media_ns)
        self._feeding(stamped, params)
        try:
            self._ring.write(stamped, pack(params))
        except (ValueError, WireError) as error:
            self._metrics.count("source.rejected")
            self._trouble.say(str(error))
            return
        self._trouble.over()
        self._last, self._version, self.newest_seq = frame, params.version, frame.seq
        self._metrics.count("source.fed")
        self._fed(params)
