"""The supervisor with real worker processes (fake engine): killed, stopped, crashing, refusing, swapped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bridge.clock import now_ns
from bridge.config import WorkerConfig
from bridge.errors import WireError
from bridge.frame import Frame, Stamps
from bridge.metrics import Metrics
from bridge.ring import RingWriter
from bridge.supervisor import Supervisor
from pipelines.params import Params, pack
from pipelines.spec import StreamSpec

pytestmark = pytest.mark.usefixtures("nothing_left")


class Stage:
    """A supervisor with a ring to feed and a list of what it painted."""

    def __init__(self, **config: object) -> None:
        self.metrics = Metrics()
        self.ring = RingWriter.create(1024 * 1024)
        self.pictures: list[Frame] = []
        self.refused: list[tuple[StreamSpec | None, str]] = []
        worker = WorkerConfig(engine="fake", **config)  # type: ignore[arg-type]
        self.supervisor = Supervisor(
            worker, self.ring.name, self.metrics, self.pictures.append, lambda *a: self.refused.append(a)
        )
        self.seq = 0

    def spec(self, size: int = 64, **fake: float) -> StreamSpec:
        return StreamSpec(engine="fake", width=size, height=size, fake=fake)

    def start(self, spec: StreamSpec) -> None:
        self.supervisor.want(spec, Params())
        self.supervisor.start()

    def feed(self) -> None:
        self.seq += 1
        pixels = np.full((48, 64, 3), self.seq % 256, np.uint8)
        frame = Frame(pixels, self.seq, Stamps(captured=now_ns(), fed=now_ns()))
        self.ring.write(frame, pack(Params(version=self.seq)))
        self.supervisor.feed()

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Feed frames until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.metrics.snapshot()
            self.feed()
            time.sleep(0.01)

    def state(self) -> object:
        return self.metrics.snapshot()["state"]

    def close(self) -> None:
        self.supervisor.stop()
        self.ring.close()
        self.ring.unlink()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """One that takes no worker of a busy machine for stalled."""
    made = Stage(stall_s=30.0)
    yield made
    made.close()


@pytest.fixture
def strict() -> Iterator[Stage]:
    """One that takes a worker for stalled when users' runs do."""
    made = Stage()
    yield made
    made.close()


def test_pictures_carry_number_version_and_stamps(stage: Stage) -> None:
    stage.start(stage.spec())
    stage.until(lambda: len(stage.pictures) > 20)
    for frame in stage.pictures:
        assert frame.seq == frame.version
        assert 0 < frame.stamps.captured <= frame.stamps.fed <= frame.stamps.taken <= frame.stamps.done
        assert frame.pixels.shape == (64, 64, 3)
    numbers = [f.seq for f in stage.pictures]
    assert numbers == sorted(set(numbers))
    stage.until(lambda: stage.state() == "running")


def test_the_standby_takes_over_from_a_killed_painter(stage: Stage) -> None:
    stage.start(stage.spec())
    for _ in range(3):
        stage.until(lambda: stage.supervisor.standby_pid and stage.supervisor.active_pid)
        victim, heir = stage.supervisor.active_pid, stage.supervisor.standby_pid
        assert victim is not None
        before = len(stage.pictures)
        os.kill(victim, signal.SIGKILL)
        stage.until(lambda v=victim, n=before: stage.supervisor.active_pid != v and len(stage.pictures) > n + 3)
        assert stage.supervisor.active_pid == heir, "somebody else than the warm standby took over"
    assert stage.metrics.get("worker.restarts") == 3


def test_a_stopped_painter_is_replaced_after_a_second_of_silence(strict: Stage) -> None:
    strict.start(strict.spec())
    strict.until(lambda: strict.supervisor.standby_pid and len(strict.pictures) > 5)
    victim = strict.supervisor.active_pid
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    strict.until(lambda: strict.supervisor.active_pid not in (None, victim))
    assert strict.metrics.get("worker.stalls") >= 1, "a busy machine's others may be silent for a second too"
    strict.until(lambda: strict.state() == "running")


def test_a_slow_painter_whom_nobody_could_follow_is_waited_for() -> None:
    """A start on a machine so busy takes longer than what it waits for, and shows nothing meanwhile."""
    stage = Stage(standby=False)
    try:
        stage.start(stage.spec())
        stage.until(lambda: len(stage.pictures) > 5)
        painter = stage.supervisor.active_pid
        assert painter is not None
        os.kill(painter, signal.SIGSTOP)
        time.sleep(2.0)
        os.kill(painter, signal.SIGCONT)
        shown = len(stage.pictures)
        stage.until(lambda: len(stage.pictures) > shown + 5)
        assert stage.supervisor.active_pid == painter
        assert stage.metrics.get("worker.stalls") == 0
        os.kill(painter, signal.SIGSTOP)
        stage.until(lambda: stage.supervisor.active_pid not in (None, painter))
    finally:
        stage.close()


def test_a_painter_that_hangs_in_a_frame_says_where(strict: Stage, caplog: pytest.LogCaptureFixture) -> None:
    strict.start(strict.spec(stall_after=10))
    strict.until(lambda: strict.metrics.get("worker.stalls") >= 1)
    # One that gets no processor before it is killed says nothing; its successors hang in the same place.
    strict.until(lambda: "fake.py" in caplog.text)
    assert "was here" in caplog.text


def test_a_crash_loop_ends_and_a_restart_command_begins_anew(stage: Stage) -> None:
    stage.start(stage.spec(crash_after=6))
    stage.until(lambda: stage.state() == "failed", seconds=60)
    pictures = len(stage.pictures)
    time.sleep(0.5)
    assert stage.supervisor.active_pid is None
    assert "died" in str(stage.metrics.snapshot()["error"])
    stage.supervisor.restart()
    stage.until(lambda: len(stage.pictures) > pictures)


def test_a_new_size_is_built_beside_the_stream_and_swapped(stage: Stage) -> None:
    stage.start(stage.spec(64))
    stage.until(lambda: len(stage.pictures) > 5)
    stage.supervisor.want(stage.spec(128), Params())
    stage.until(lambda: stage.pictures[-1].pixels.shape == (128, 128, 3))
    shapes = [f.pixels.shape[0] for f in stage.pictures]
    assert shapes == sorted(shapes), "the old size came back after the new one"
    numbers = [f.seq for f in stage.pictures]
    assert numbers == sorted(numbers)
    assert stage.metrics.get("worker.restarts") == 0


def test_what_can_not_be_built_leaves_the_old_one_painting(stage: Stage) -> None:
    stage.start(stage.spec(64))
    stage.until(lambda: len(stage.pictures) > 5)
    stage.supervisor.want(stage.spec(128, fail_load=1), Params())
    stage.until(lambda: stage.refused)
    keep, reason = stage.refused[0]
    assert keep == stage.spec(64)
    assert reason
    before = len(stage.pictures)
    stage.until(lambda: len(stage.pictures) > before + 10)
    assert stage.pictures[-1].pixels.shape == (64, 64, 3)
    assert len(stage.refused) == 1


def test_a_model_that_can_not_be_built_at_the_start_is_a_state(stage: Stage) -> None:
    stage.start(stage.spec(fail_load=1))
    stage.until(lambda: stage.state() == "failed")
    assert stage.refused[0][0] is None
    stage.supervisor.want(stage.spec(), Params())
    stage.until(lambda: stage.pictures and stage.state() == "running")


def test_workers_end_with_their_bridge(stage: Stage) -> None:
    """A bridge that is killed leaves no worker: its pipe ends, and so do they."""
    import subprocess
    import sys

    code = (
        "import time\n"
        "from bridge.supervisor import Supervisor\n"
        "from bridge.config import WorkerConfig\n"
        "from bridge.metrics import Metrics\n"
        "from bridge.ring import RingWriter\n"
        "from pipelines.params import Params\n"
        "from pipelines.spec import StreamSpec\n"
        "ring = RingWriter.create(1 << 20)\n"
        "s = Supervisor(WorkerConfig(engine='fake'), ring.name, Metrics(), print)\n"
        "s.want(StreamSpec(engine='fake', width=64, height=64), Params())\n"
        "s.start()\n"
        "while s.active_pid is None: time.sleep(0.01)\n"
        "print(s.active_pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as bridge:
        assert bridge.stdout is not None
        worker = int(bridge.stdout.readline())
        bridge.kill()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the worker outlived its bridge")


def test_full_shared_memory_is_an_error_and_another_try(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    create, fails = RingWriter.create, iter([True, True])

    def full(*args: object, **kwargs: object) -> RingWriter:
        if next(fails, False):
            raise WireError("shared memory is full")
        return create(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(RingWriter, "create", full)
    stage.start(stage.spec())
    stage.until(lambda: len(stage.pictures) > 3)
    assert next(fails, None) is None
    assert "full" in str(stage.metrics.snapshot()["error"])
