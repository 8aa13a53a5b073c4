"""Between the worker and the sinks at the display's rate: real threads, a real Output, pictures of a known motion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from bridge.clock import NS, now_ns
from bridge.context import Context
from bridge.display import display as module
from bridge.display.budget import Budget
from bridge.display.display import Display
from bridge.drivers import make_sink
from bridge.frame import Frame, Stamps
from bridge.metrics import Metrics
from bridge.output import Output
from bridge.pacing import Pace
from pipelines.params import Params
from tests.support.pans import difference, window

SIDE = 128
ON = Params(display_rate=60, width=SIDE, height=SIDE)
OFF = Params(width=SIDE, height=SIDE)


class Kept:
    """A sink that keeps what it is given."""

    pace = Pace(hold_s=None)

    def __init__(self, painted_only: bool = False) -> None:
        self.painted_only = painted_only
        self.frames: list[Frame] = []

    def open(self) -> None: ...

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)

    def close(self) -> None: ...

    def describe(self) -> str:
        return "kept"


class Stage:
    """The parts around a Display; a source that pans, and a worker that returns what it is fed."""

    def __init__(self, possible: bool = True) -> None:
        self.metrics = Metrics()
        self.output = Output(self.metrics)
        self.sink, self.plain = Kept(), Kept(painted_only=True)
        self.output.add("kept", self.sink)
        self.output.add("plain", self.plain)
        self.display = Display(self.output, self.metrics, possible)
        self.output.start()
        self.number = 0
        self.stamps: list[int] = []
        self.painted: dict[int, Frame] = {}

    def close(self) -> None:
        self.display.stop()
        self.output.stop()

    @property
    def last(self) -> Frame | None:
        """What was written last."""
        return self.sink.frames[-1] if self.sink.frames else None

    def feed(self, params: Params = ON, old_ns: int = 0) -> Frame:
        """The next input, a pixel on."""
        at = now_ns() - old_ns
        frame = Frame(window(100 + self.number % 300, 80, SIDE, SIDE), self.number, Stamps(at, at + self.number))
        self.number += 1
        self.stamps.append(at)
        self.display.follow(params)
        self.display.fed(frame, params)
        return frame

    def paint(self, frame: Frame, params: Params = ON) -> Frame:
        stamps = frame.stamps._replace(taken=frame.stamps.fed, done=now_ns())
        picture = self.painted[frame.seq] = Frame(255 - frame.pixels, frame.seq, stamps, version=7)
        self.display.put(picture)
        return picture

    def play(self, until: Callable[[], object], every: int = 6, **more: int) -> Frame:
        """Feed some 60 inputs a second and paint each `every`th, until it is so; the picture that was painted last."""
        deadline = time.monotonic() + 30
        while not until():
            assert time.monotonic() < deadline, self.metrics.snapshot()
            frame = self.feed(**more)  # type: ignore[arg-type]
            if self.number % every == 1:
                last = self.paint(frame)
            time.sleep(1 / 60)
        return last

    def wait(self, until: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not until():
            assert time.monotonic() < deadline, self.metrics.snapshot()
            time.sleep(0.005)


class Patient(Budget):
    """For a machine that has other things to do."""

    def tick(self, work_s: float, missed: int) -> str:
        return super().tick(0.0, 0)


@pytest.fixture
def stage(monkeypatch) -> Iterator[Stage]:
    monkeypatch.setattr(module, "Budget", Patient)
    monkeypatch.setattr(module, "PAUSES_S", (1000.0,))
    made = Stage()
    yield made
    made.close()


def test_off_every_picture_goes_straight_through_and_no_thread_runs(stage: Stage) -> None:
    pictures = [stage.paint(stage.feed(OFF)) for _ in range(3)]
    stage.wait(lambda: stage.last is pictures[-1])
    assert all(any(frame is picture for picture in pictures) for frame in stage.sink.frames)
    assert stage.display._thread is None


def test_between_painted_pictures_the_last_one_moves_on_and_stays_what_it_was(stage: Stage) -> None:
    stage.play(lambda: sum(frame.moved > 0 for frame in stage.sink.frames) >= 30)
    moved = [frame for frame in stage.sink.frames if frame.moved]
    for frame in moved:
        of = stage.painted[frame.seq]
        assert (frame.stamps, frame.version, frame.made, frame.media_ns) == (of.stamps, of.version, of.made, -1)
        assert frame.moved >= of.stamps.captured
    assert not any(frame.moved for frame in stage.plain.frames), "a sink of painted pictures gets nothing else"
    frame = max(moved, key=lambda frame: frame.moved - frame.stamps.captured)
    wanted = 255 - window(100 + stage.stamps.index(frame.moved), 80, SIDE, SIDE)
    assert difference(frame.pixels, wanted, 16) < 0.6 * difference(stage.painted[frame.seq].pixels, wanted, 16)


def test_latency_is_that_of_painted_pictures_and_motion_has_a_figure_of_its_own(stage: Stage) -> None:
    def seen_often() -> bool:
        latencies, motions = (len(stage.metrics.recent(name)) for name in ("latency", "motion"))
        return latencies > 3 and motions > 2 * latencies

    stage.play(seen_often)
    painted = len({frame.seq for frame in stage.sink.frames})
    stage.wait(lambda: len(stage.metrics.recent("latency")) >= painted - 1)
    assert len(stage.metrics.recent("latency")) <= stage.output.count, "one for each picture, however often it is shown"
    seen = stage.metrics.snapshot()
    assert 0 < float(seen["motion.p50"]) < float(seen["age"]) + 1000
    assert len(stage.metrics.recent("frame")) <= stage.output.count, "nor does it count as another painted picture"


def test_a_slow_sink_that_writes_an_older_picture_in_between_is_not_measured() -> None:
    metrics = Metrics()
    output = Output(metrics)
    old, new = (Frame(np.zeros((4, 4, 3), np.uint8), n, Stamps(n, n, n, n)) for n in (1, 2))
    for frame in (new, old, replace(new, moved=3), old, new):
        output.shown(frame)
    assert len(metrics.recent("latency")) == len(metrics.recent("frame")) == len(metrics.recent("motion")) == 1


def test_only_a_picture_of_which_nothing_was_written_counts_as_skipped() -> None:
    metrics = Metrics()
    output = Output(metrics)
    output.add("kept", Kept())  # not started: nothing is written
    pictures = [Frame(np.zeros((4, 4, 3), np.uint8), n, Stamps(n, n, n, n + 1)) for n in range(2)]
    for frame in (pictures[0], replace(pictures[0], moved=5), replace(pictures[0], moved=6), pictures[0]):
        output.offer(frame)
    assert metrics.get("output.kept.skipped") == 0
    output.offer(replace(pictures[1], moved=7))
    assert metrics.get("output.kept.skipped") == 1
    output.offer(replace(pictures[1], moved=8))
    assert metrics.get("output.kept.skipped") == 1


def test_pictures_that_come_faster_than_the_display_are_left_alone(stage: Stage) -> None:
    slow = Params(display_rate=24, width=SIDE, height=SIDE)

    def pass_through() -> bool:
        before = stage.metrics.get("output.warped")
        pictures = [stage.paint(stage.feed(slow)) for _ in range(30)]
        stage.wait(lambda: stage.last is not None and stage.last.seq == pictures[-1].seq)
        return stage.metrics.get("output.warped") == before and stage.last is pictures[-1]

    stage.wait(pass_through)


def test_switched_off_the_painted_picture_is_shown_as_it_is(stage: Stage) -> None:
    last = stage.play(lambda: stage.metrics.get("output.warped") >= 5)
    stage.display.follow(OFF)
    picture = stage.paint(stage.feed(OFF), OFF)
    stage.wait(lambda: stage.last is picture)
    count = stage.metrics.get("output.warped")
    assert stage.metrics.snapshot()["display.state"] == "off"
    stage.feed(OFF)
    assert last is not picture
    assert stage.metrics.get("output.warped") <= count + 1


def test_what_waits_for_a_tick_goes_out_at_the_end(stage: Stage, monkeypatch) -> None:
    monkeypatch.setattr(Display, "_run", lambda self: None)  # no tick comes
    picture = stage.paint(stage.feed())
    stage.display.flush()
    stage.wait(lambda: any(frame is picture for frame in stage.sink.frames))


@pytest.mark.parametrize("params", [{"mode": "txt2img"}, {"pause": True}])
def test_a_picture_that_does_not_follow_the_input_is_not_moved(stage: Stage, params: dict[str, object]) -> None:
    still = Params(display_rate=60, width=SIDE, height=SIDE, **params)  # type: ignore[arg-type]
    last = stage.play(lambda: stage.number > 30, params=still)  # type: ignore[arg-type]
    stage.wait(lambda: stage.last is last)
    assert stage.metrics.get("output.warped") == 0


def test_a_picture_too_old_is_held(stage: Stage) -> None:
    last = stage.play(lambda: stage.number > 30, old_ns=2 * NS)
    stage.wait(lambda: stage.last is last)
    assert stage.metrics.get("output.warped") == 0


def test_whatever_fails_the_show_goes_on_with_painted_pictures(stage: Stage, monkeypatch) -> None:
    from bridge.display import warp

    def broken(*args: object) -> np.ndarray:
        raise MemoryError("no room")

    monkeypatch.setattr(warp, "along", broken)
    stage.play(lambda: "no room" in str(stage.metrics.snapshot().get("display.state")))
    pictures = [stage.paint(stage.feed()) for _ in range(3)]
    stage.wait(lambda: stage.last is pictures[-1])
    assert "given up" in str(stage.metrics.snapshot()["error"])
    monkeypatch.undo()
    stage.play(lambda: stage.metrics.get("output.warped") >= 3, params=Params(display_rate=50, width=SIDE, height=SIDE))  # type: ignore[arg-type]


def test_a_machine_that_can_not_keep_up_gives_up_with_a_sentence(stage: Stage, monkeypatch) -> None:
    class Strict(Budget):
        def tick(self, work_s: float, missed: int) -> str:
            return super().tick(1.0, missed)

    monkeypatch.setattr(module, "Budget", Strict)
    stage.play(lambda: "given up" in str(stage.metrics.snapshot().get("display.state")))
    assert "1000 ms" in str(stage.metrics.snapshot()["error"])
    picture = stage.paint(stage.feed())
    stage.wait(lambda: stage.last is picture)


def test_what_was_given_up_is_tried_again(stage: Stage, monkeypatch) -> None:
    class Once(Patient):
        failed = False

        def tick(self, work_s: float, missed: int) -> str:
            said, Once.failed = "" if Once.failed else "given up", True
            return said

    monkeypatch.setattr(module, "Budget", Once)
    monkeypatch.setattr(module, "PAUSES_S", (0.3, 1000.0))
    said, gauge = [], stage.metrics.gauge
    monkeypatch.setattr(stage.metrics, "gauge", lambda *named: (said.append(named), gauge(*named)))
    stage.play(lambda: ("error", "given up; again in 0.3 s") in said)
    stage.play(lambda: stage.metrics.get("output.warped") >= 3)
    assert stage.metrics.snapshot()["display.state"] == "60 Hz"
    assert stage.metrics.snapshot()["error"] == "", "it is over"


def test_off_is_off_while_it_waits_to_try_again(stage: Stage, monkeypatch) -> None:
    class Strict(Budget):
        def tick(self, work_s: float, missed: int) -> str:
            return "given up"

    monkeypatch.setattr(module, "Budget", Strict)
    monkeypatch.setattr(module, "PAUSES_S", (0.2,))
    stage.play(lambda: "given up" in str(stage.metrics.snapshot().get("display.state")))
    stage.metrics.gauge("error", "the camera is gone")
    stage.display.follow(OFF)
    stage.wait(lambda: stage.metrics.snapshot()["display.state"] == "off")
    assert stage.display._pause_s is None
    assert stage.metrics.snapshot()["error"] == "the camera is gone", "others may have something to say meanwhile"


def test_a_render_that_writes_every_frame_is_never_touched() -> None:
    stage = Stage(possible=False)
    try:
        last = stage.play(lambda: stage.number > 12)
        stage.wait(lambda: stage.last is last)
        assert stage.metrics.get("output.warped") == 0
    finally:
        stage.close()


def test_a_movie_takes_painted_pictures_alone_where_that_is_asked(tmp_path) -> None:
    path = tmp_path / "out.mp4"
    assert make_sink(f"movie:{path}?painted=1", Context()).painted_only  # type: ignore[attr-defined]
    assert not make_sink(f"movie:{path}", Context()).painted_only  # type: ignore[attr-defined]
