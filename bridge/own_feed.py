"""Streams that control units and the image prompt have to themselves.

Each has its own source, thread and ring; nobody waits for any of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from bridge.clock import now_ns
from bridge.context import Context
from bridge.drivers import make_source
from bridge.errors import LiveLatentError, WireError
from bridge.feed import SourceThread
from bridge.frame import MAX_PIXELS, Frame
from bridge.metrics import Renamed
from bridge.preview import PreviewHub
from bridge.ring import RingWriter
from bridge.trouble import Trouble
from pipelines.spec import IMAGE

WAIT_S = 0.2


def _renamed(prefix: str) -> Callable[[str], str]:
    """What a driver calls `source`, under that name: `control1.errors`."""
    return lambda name: f"{prefix}{name.removeprefix('source')}" if name.startswith("source") else name


class OwnFeed:
    """One such stream, from its source to its ring. A source that is gone is opened again; its last picture stays."""

    def __init__(self, number: int, text: str, context: Context) -> None:
        """Raises ConfigError and DriverError as `make_source` does."""
        self.number = number
        unit = (f"control{number}", f"control unit {number}")
        prefix, whose = ("image", "the image prompt") if number == IMAGE else unit
        self.metrics = Renamed(context.metrics, _renamed(prefix), f"{whose}'s stream")
        alone = Context(context.config, self.metrics, PreviewHub(), context.main_tasks)
        self._source = SourceThread(make_source(text, alone), self.metrics, alone.preview)
        self._ring = RingWriter.create(MAX_PIXELS * 4)
        self._trouble = Trouble(self.metrics)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ll-own-{number}", daemon=True)

    @property
    def ring(self) -> str:
        """Name of the ring that workers read."""
        return self._ring.name

    def begin(self) -> None:
        """The first worker is there: a movie may start."""
        self._source.ready.set()

    def start(self) -> None:
        self._thread.start()
        self._source.start()

    def stop(self) -> None:
        self._stop.set()
        self._source.stop()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def close(self) -> None:
        """After `stop`: the ring goes."""
        with contextlib.suppress(WireError):
            self._ring.unlink()
        self._ring.close()

    def _run(self) -> None:
        slot, dropped = self._source.slot, 0
        while not self._stop.is_set():
            frame = slot.take(WAIT_S)
            if slot.dropped != dropped:
                self.metrics.count("source.skipped", slot.dropped - dropped)
                dropped = slot.dropped
            if frame is not None:
                self._write(frame)

    def _write(self, frame: Frame) -> None:
        stamps = frame.stamps._replace(fed=now_ns())
        try:
            self._ring.write(Frame(frame.pixels, frame.seq, stamps, frame.media_ns))
        except (ValueError, WireError) as error:
            self.metrics.count("source.rejected")
            self._trouble.say(str(error))
        else:
            self._trouble.over()


class OwnFeeds:
    """Those of a run; none is the usual number."""

    def __init__(self, sources: dict[int, str], context: Context) -> None:
        """`sources`: unit number, or IMAGE → `name:target?options`. Raises ConfigError and DriverError; leaves
        nothing open."""
        self.feeds: list[OwnFeed] = []
        try:
            for number, text in sorted(sources.items()):
                self.feeds.append(OwnFeed(number, text, context))
        except LiveLatentError:
            self.close()
            raise

    @property
    def rings(self) -> dict[int, str]:
        """Unit number, or IMAGE → the name of its ring."""
        return {feed.number: feed.ring for feed in self.feeds}

    def begin(self) -> None:
        for feed in self.feeds:
            feed.begin()

    def start(self) -> None:
        for feed in self.feeds:
            feed.start()

    def stop(self) -> None:
        for feed in self.feeds:
            feed.stop()

    def close(self) -> None:
        for feed in self.feeds:
            feed.close()
