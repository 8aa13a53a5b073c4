"""An error is shown while there is one: a device that comes back takes its sentence with it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bridge.context import Context
from bridge.drivers import make_sink
from bridge.errors import DriverError
from bridge.feed import Feeder, SourceThread
from bridge.frame import Frame, Stamps
from bridge.metrics import Metrics
from bridge.output import Output
from bridge.preview import PreviewHub
from bridge.ring import RingWriter
from bridge.slot import LatestSlot
from bridge.trouble import Trouble
from pipelines.params import Params

FRAME = Frame(np.zeros((64, 64, 3), np.uint8), 0, Stamps(1))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def error(metrics: Metrics) -> object:
    return metrics.snapshot().get("error", "")


class Loose:
    """A camera whose plug can be pulled."""

    def __init__(self) -> None:
        self.plugged = True

    def open(self) -> None:
        if not self.plugged:
            raise DriverError("the camera is gone")

    def read(self, timeout: float) -> Frame | None:
        time.sleep(0.005)
        self.open()
        return FRAME

    def close(self) -> None:
        pass

    def describe(self) -> str:
        return "camera"


def test_a_source_that_comes_back() -> None:
    metrics, camera = Metrics(), Loose()
    thread = SourceThread(camera, metrics, PreviewHub())
    thread.start()
    try:
        for _ in range(2):
            until(lambda: thread.slot.take(0.1))
            assert error(metrics) == ""
            camera.plugged = False
            until(lambda: error(metrics) == "the camera is gone")
            camera.plugged = True
            until(lambda: error(metrics) == "")
    finally:
        thread.stop()


def test_a_sink_that_can_be_written_again(monkeypatch) -> None:
    metrics = Metrics()
    sink = make_sink("null", Context())
    write, full = sink.write, True

    def maybe(frame: Frame) -> None:
        if full:
            raise DriverError("the disk is full")
        write(frame)

    monkeypatch.setattr(sink, "write", maybe)
    output = Output(metrics)
    output.add("null", sink)
    output.start()
    try:
        until(lambda: output.sinks[0].offer(FRAME) or error(metrics) == "sink null: the disk is full")
        full = False
        until(lambda: output.sinks[0].offer(FRAME) or error(metrics) == "")
    finally:
        output.stop()


def test_a_frame_that_is_refused_and_one_that_is_not() -> None:
    metrics = Metrics()
    ring = RingWriter.create(64 * 64 * 3)
    slot: LatestSlot[Frame] = LatestSlot()
    feeder = Feeder(slot, ring, Params, lambda params: None, metrics)
    feeder.start()
    try:
        slot.put(Frame(np.zeros((2048, 2048, 3), np.uint8), 1, Stamps(1)))
        until(lambda: error(metrics) != "")
        slot.put(FRAME)
        until(lambda: error(metrics) == "")
    finally:
        feeder.stop()
        ring.unlink()
        ring.close()


def test_what_others_say_meanwhile_stays() -> None:
    metrics = Metrics()
    mine, other = Trouble(metrics), Trouble(metrics)
    assert mine.say("no camera")
    assert not mine.say("no camera")
    other.say("no disk")
    mine.over()
    assert error(metrics) == "no disk"
    other.over()
    assert error(metrics) == ""
