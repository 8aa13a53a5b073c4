"""The whole program with real parts: worker processes, UDP, shared memory; only the networks are absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pythonosc.udp_client import SimpleUDPClient

from bridge.app import App
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.errors import ConfigError
from bridge.frame import Frame
from bridge.opening import initial_params
from engines.registry import Registry

pytestmark = pytest.mark.usefixtures("nothing_left")


def config(**more: object) -> Config:
    values: dict[str, object] = {
        "source": "scene?size=160x120&fps=60",
        "sinks": ("null",),
        "params": {"width": 128, "height": 128},
        "worker": WorkerConfig(engine="fake", fake={"ms": 2.0}, stall_s=30.0),
        "osc": OscConfig(port=0),
        "web": WebConfig(enabled=False),
    }
    return Config(**{**values, **more})  # type: ignore[arg-type]


class Run:
    def __init__(self, config: Config) -> None:
        self.app = App(config)
        self.frames: list[Frame] = []
        self.app.output.sinks[0].tap = self.frames.append
        try:
            self.app.start()
            self.osc = SimpleUDPClient("127.0.0.1", self.app.control.port)
            self.until(lambda: len(self.frames) > 3)
        except BaseException:
            self.app.close()
            raise

    def close(self) -> None:
        self.osc._sock.close()
        self.app.close()

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.app.metrics.snapshot()
            time.sleep(0.005)

    def metric(self, name: str) -> float | str:
        return self.app.metrics.snapshot().get(name, 0)


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run(config())
    yield made
    made.close()


def test_a_slider_moved_over_osc_shows_in_the_next_frame(run: Run) -> None:
    before = run.frames[-1].version
    for value in (0.25, 0.75, 0.31):
        run.osc.send_message("/ll/strength", value)
        run.until(lambda v=value: run.app.store.values()["strength"] == pytest.approx(v))
        wanted = run.app.store.snapshot().version
        run.until(lambda w=wanted: run.frames[-1].version >= w)
    versions = [f.version for f in run.frames]
    assert versions == sorted(versions)
    assert versions[-1] > before
    # The first frame that was fed after the change carries it: no frame between the two has the old version.
    later = [f for f in run.frames if f.version == versions[-1]]
    older = [f for f in run.frames if f.version < versions[-1]]
    assert max(f.seq for f in older) <= min(f.seq for f in later)


def test_a_ramp_gives_every_frame_its_own_version(run: Run) -> None:
    run.osc.send_message("/ll/strength", [0.0])
    run.until(lambda: run.app.store.values()["strength"] == 0.0)
    still = run.app.store.snapshot().version
    run.osc.send_message("/ll/strength", [1.0, 0.5])
    run.until(lambda: run.app.store.snapshot().strength == 1.0)
    there = run.app.store.snapshot().version
    run.until(lambda: run.frames[-1].version >= there)
    moving = {f.seq: f.version for f in run.frames if still < f.version < there}
    assert len(moving) > 2
    assert len(set(moving.values())) == len(moving)


def test_a_source_that_stands_still_does_not_hold_up_a_slider() -> None:
    made = Run(config(source="scene?size=64x64&fps=1"))
    try:
        versions = []
        for i in range(10):
            made.osc.send_message("/ll/strength", i / 10)
            made.until(lambda n=i: made.app.store.values()["strength"] == pytest.approx(n / 10))
            wanted = made.app.store.snapshot().version
            made.until(lambda w=wanted: made.frames[-1].version >= w)
            versions.append(made.frames[-1].seq)
        assert versions[-1] - versions[0] < 8, "the source made a frame for every change, so this showed nothing"
    finally:
        made.close()


def test_pause_holds_and_goes_on(run: Run) -> None:
    run.osc.send_message("/ll/pause", 1)
    run.until(lambda: run.metric("state") == "paused")
    run.until(lambda: len({f.seq for f in run.frames[-6:]}) == 1)  # what was under way is through
    seq, count = run.frames[-1].seq, len(run.frames)
    run.until(lambda: len(run.frames) > count + 10)  # the sink goes on with the held picture
    assert {f.seq for f in run.frames[count:]} == {seq}
    run.osc.send_message("/ll/pause", 0)
    run.until(lambda: run.frames[-1].seq > seq)


def test_a_new_size_arrives_without_a_break(run: Run) -> None:
    run.osc.send_message("/ll/width", 256)
    run.until(lambda: run.frames[-1].width == 256)
    assert run.frames[-1].height == 128
    assert run.metric("worker.restarts") == 0


def test_bad_messages_are_counted_and_change_nothing(run: Run) -> None:
    before = run.app.store.values()
    for address, value in (
        ("/ll/strength", "loud"),
        ("/ll/strength", float("nan")),
        ("/ll/strength", 7.0),
        ("/ll/model", "no-such-model"),
        ("/ll/model", "../../etc/passwd"),
        ("/ll/nothing", 1),
        ("/ll/prompt", "x" * 30_000),
    ):
        rejected = run.metric("osc.rejected")
        run.osc.send_message(address, value)
        run.until(lambda r=rejected: run.metric("osc.rejected") > r)
    assert run.app.store.values() == before
    seq = run.frames[-1].seq
    run.until(lambda: run.frames[-1].seq > seq + 5)


def test_the_worker_dies_and_the_sink_notices_nothing(run: Run) -> None:
    run.until(lambda: run.app.supervisor.standby_pid)
    victim = run.app.supervisor.active_pid
    assert victim is not None
    seq = run.frames[-1].seq
    os.kill(victim, signal.SIGKILL)
    run.until(lambda: run.app.supervisor.active_pid not in (None, victim) and run.frames[-1].seq > seq + 5)
    assert run.metric("worker.restarts") == 1


def test_a_source_that_is_missing_is_a_sentence_and_a_second_one_heals(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    path = tmp_path / "picture.png"
    app = App(config(source=f"still:{path}"))
    frames: list[Frame] = []
    app.output.sinks[0].tap = frames.append
    try:
        app.start()
        deadline = time.monotonic() + 60
        while "picture.png" not in str(app.metrics.snapshot().get("error", "")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        cv2.imwrite(str(path), np.full((50, 70, 3), 90, np.uint8))
        deadline = time.monotonic() + 60
        while not frames:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        app.close()


def test_two_runs_at_one_osc_port_is_a_sentence(run: Run) -> None:
    from bridge.errors import LiveLatentError

    second = App(config(osc=OscConfig(port=run.app.control.port)))
    with pytest.raises(LiveLatentError, match=str(run.app.control.port)):
        second.start()


@pytest.mark.parametrize(
    ("params", "word"),
    [({"strenght": 0.5}, "strenght"), ({"strength": 3}, "strength"), ({"width": 100}, "64"), ({"steps": 1.5}, "steps")],
)
def test_wrong_parameters_in_a_config_are_named(params: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        initial_params(config(params=params), Registry.open())


COMMAND = ["run", "--engine=fake", "--source=scene?size=64x64", "--sink=null", "--no-web", "--osc-port=0"]
COMMAND += ["--set=width=64", "--set=height=64"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_cleanly_when_asked(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-m", "bridge", *COMMAND], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "paints" in line:
                break
        process.send_signal(number)
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert "resource_tracker" not in rest


def test_the_program_stops_after_the_frames_it_was_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *COMMAND, "--frames", "20"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_program_loads_no_torch() -> None:
    code = "import bridge.app, sys, json; print(json.dumps([m for m in sys.modules if m.split('.')[0] in " + (
        "('torch', 'diffusers', 'transformers', 'starlette', 'uvicorn')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == []
