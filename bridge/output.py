"""From ring B to the sinks: each has its own thread and pace, and goes on with the last picture when none comes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from bridge.clock import MS, NS, now_ns
from bridge.drivers import Sink
from bridge.errors import DriverError
from bridge.frame import Frame
from bridge.metrics import Metrics
from bridge.pacing import Grid
from bridge.slot import LatestSlot
from bridge.trouble import Trouble

log = logging.getLogger("livelatent.sink")

MAX_LEFT_OUT = 1000
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class SinkThread:
    """Writes to one sink, in its time. A sink that fails is opened again; the others notice nothing."""

    def __init__(self, name: str, sink: Sink, output: Output, metrics: Metrics) -> None:
        self.name = name
        self.slot: LatestSlot[Frame] = LatestSlot()
        self.idle = threading.Event()
        self.tap: Callable[[Frame], None] = lambda frame: None
        """Called after each write, repeats too; for measurements."""
        self._sink = sink
        self._output = output
        self._metrics = metrics
        self._trouble = Trouble(metrics)
        self.painted_only: bool = getattr(sink, "painted_only", False)
        self._last: Frame | None = None
        self._offered: Frame | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ll-sink-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 3.0) -> None:
        self._stop.set()
        self.slot.close()
        if self._thread.is_alive():
            self._thread.join(deadline_s)
        if self._thread.is_alive():
            log.warning("sink %s does not let go; left behind", self.name)

    def offer(self, frame: Frame) -> None:
        """A new picture, or the last one moved on. Never blocks; a picture of which nothing was written in time is
        dropped and counted."""
        self.idle.clear()
        before, replaced, written = self.slot.dropped, self._offered, self._last
        self._offered = frame
        self.slot.put(frame)
        if self.slot.dropped != before and not _same(replaced, frame) and not _same(replaced, written):
            self._metrics.count(f"output.{self.name}.skipped")

    def _run(self) -> None:
        tries = 0
        while not self._stop.is_set():
            began = now_ns()
            try:
                self._sink.open()
                self._write_all()
            except DriverError as error:
                self._metrics.count("sink.errors")
                if self._trouble.say(f"sink {self.name}: {error}"):
                    log.warning("sink %s: %s", self.name, error)
                tries = 0 if now_ns() - began > 10 * NS else tries + 1
                self.idle.set()
                self._stop.wait(PAUSES_S[min(tries, len(PAUSES_S)) - 1])
            finally:
                self._close()

    def _close(self) -> None:
        try:
            self._sink.close()
        except DriverError as error:
            self._metrics.gauge("error", f"sink {self.name}: {error}")
            log.warning("sink %s: %s", self.name, error)

    def _write_all(self) -> None:
        if self._sink.pace.fps is None:
            self._write_as_they_come(self._sink.pace.hold_s)
        else:
            self._write_on_grid(self._sink.pace.fps)

    def _write_as_they_come(self, hold_s: float | None) -> None:
        wait_s = 0.2 if hold_s is None else hold_s
        while not self._stop.is_set():
            frame = self.slot.take(wait_s)
            if frame is not None:
                self._write(frame)
            elif self._last is not None and hold_s is not None and not self._stop.is_set():
                self._repeat(self._last)

    def _write_on_grid(self, fps: float) -> None:
        grid = Grid(fps, now_ns())
        while not self._stop.is_set():
            frame = self._wait_for_tick(grid)
            if frame is not None:
                self._write(frame)
            elif self._last is not None:
                self._repeat(self._last)
            if self._last is not None:
                self._metrics.count(f"output.{self.name}.late", grid.wrote(now_ns(), frame is not None))
            else:
                grid = Grid(fps, now_ns())

    def _wait_for_tick(self, grid: Grid) -> Frame | None:
        """Sleep until the tick; the newest frame then. Within the guard band, a late one is still waited for."""
        while not self._stop.is_set() and (left := grid.next_ns - now_ns()) > 0:
            self._stop.wait(left / NS)
        frame = self.slot.take(0.0)
        if frame is None and (left := grid.due_ns(have_new=False) - now_ns()) > 0:
            frame = self.slot.take(left / NS)
        return frame

    def _write(self, frame: Frame) -> None:
        try:
            self._sink.write(frame)
            self._trouble.over()
            self._output.shown(frame)
            self.tap(frame)
        finally:
            self._last = frame
            self.idle.set()

    def _repeat(self, frame: Frame) -> None:
        self._sink.write(frame)
        self.tap(frame)
        self._metrics.count("output.repeated")
        self._output.still_shown(frame)


def _same(a: Frame | None, b: Frame | None) -> bool:
    """Whether both show one painted picture, moved on or not."""
    if a is None or b is None or not (a.moved or b.moved):
        return a is b
    return a.stamps.done == b.stamps.done


class Output:
    """Hands each picture to every sink, and measures: latency is sink stamp minus capture stamp of the same frame."""

    def __init__(self, metrics: Metrics) -> None:
        self.sinks: list[SinkThread] = []
        self.count = 0
        """Pictures so far."""
        self.newest_seq = -1
        self._metrics = metrics
        self._lock = threading.Lock()
        self._newest_done = self._newest_moved = 0
        self._measured_seq = -1

    def add(self, name: str, sink: Sink) -> None:
        taken = {s.name for s in self.sinks}
        unique = next(n for n in (name, *(f"{name}{i}" for i in range(2, 99))) if n not in taken)
        self.sinks.append(SinkThread(unique, sink, self, self._metrics))

    def start(self) -> None:
        for sink in self.sinks:
            sink.start()

    def stop(self) -> None:
        for sink in self.sinks:
            sink.stop()

    def put(self, frame: Frame) -> None:
        """A new picture from the worker, to be shown at once."""
        self.arrived(frame)
        self.offer(frame)

    def arrived(self, frame: Frame) -> None:
        """A new picture from the worker, whenever it will be shown."""
        self.count += 1
        left_out = frame.seq - self.newest_seq - 1
        # A source that began anew counts from 0 or from anywhere: that is no loss.
        if self.newest_seq >= 0 and 0 < left_out < MAX_LEFT_OUT:
            self._metrics.count("source.dropped", left_out)
        self.newest_seq = frame.seq
        for sink in self.sinks:
            if sink.painted_only:
                sink.offer(frame)

    def offer(self, frame: Frame) -> None:
        """Show this: a picture that has arrived, or that one moved on."""
        for sink in self.sinks:
            if not sink.painted_only:
                sink.offer(frame)

    def wait_written(self, timeout: float, stop: Sequence[threading.Event] = ()) -> bool:
        """Until every sink has written the newest picture; False when time ran out or a stop event was set."""
        deadline = now_ns() + int(timeout * NS)
        for sink in self.sinks:
            while not sink.idle.wait(0.05):
                if now_ns() > deadline or any(event.is_set() for event in stop):
                    return False
        return True

    def shown(self, frame: Frame) -> None:
        """A sink wrote this picture; the first time that one does counts, moved on or not."""
        at = now_ns()
        captured, fed, taken, done = frame.stamps
        with self._lock:
            # Not `==`: a slower sink may write an older picture in between.
            again, moved = done <= self._newest_done, frame.moved > self._newest_moved
            self._newest_done = max(done, self._newest_done)
            self._newest_moved = max(frame.moved, self._newest_moved)
            repainted = frame.seq == self._measured_seq
            if not again:
                self._measured_seq = frame.seq
        if moved:
            self._metrics.observe("motion", (at - frame.moved) / MS)
        if again:
            self.still_shown(frame)
            return
        latency = (at - captured) / MS
        self._metrics.observe("frame", (done - taken) / MS)
        # The same frame painted again, for a slider that moved, is as old as it is: that says nothing about the way.
        if not repainted:
            self._metrics.observe("fed", (fed - captured) / MS)
            self._metrics.observe("wait", (taken - fed) / MS)
            self._metrics.observe("out", (at - done) / MS)
            self._metrics.observe("latency", latency)
            self._metrics.observe("overhead", latency - (done - taken) / MS)
        self._metrics.gauge("age", latency)
        self._metrics.gauge("params.version", float(frame.version))

    def still_shown(self, frame: Frame) -> None:
        """A sink repeated this picture: it grows old."""
        self._metrics.gauge("age", (now_ns() - frame.stamps.captured) / MS)
