"""display_rate in the whole program: pictures between those of a slow worker, and on while there is none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from bridge.app import App
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.display import display
from bridge.display.budget import Budget
from bridge.frame import Frame

pytestmark = pytest.mark.usefixtures("nothing_left")


class Patient(Budget):
    """For a machine that has other things to do."""

    def tick(self, work_s: float, missed: int) -> str:
        return super().tick(0.0, 0)


def test_pictures_go_on_between_those_of_a_slow_worker_and_when_it_is_killed(monkeypatch) -> None:
    monkeypatch.setattr(display, "Budget", Patient)
    config = Config(
        source="scene?size=160x120&fps=60",
        sinks=("null", "preview"),
        params={"width": 128, "height": 128, "display_rate": 60},
        worker=WorkerConfig(engine="fake", fake={"ms": 60.0}),
        osc=OscConfig(port=0),
        web=WebConfig(enabled=False),
    )
    app, frames = App(config), list[Frame]()
    app.output.sinks[0].tap = frames.append

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, app.metrics.snapshot()
            time.sleep(0.005)

    try:
        app.start()
        until(lambda: app.metrics.get("output.warped") > 60)
        moved = [frame for frame in frames if frame.moved]
        assert len(moved) > len({frame.seq for frame in moved}), "more than one of a painted picture"
        assert app.metrics.snapshot()["display.state"] == "60 Hz"
        preview = app.context.preview
        until(lambda: (seen := preview.newest("output")) is not None and seen.moved)
        pid = app.supervisor.active_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed, before = time.perf_counter_ns(), app.metrics.get("output.warped")
        until(lambda: app.metrics.get("output.warped") > before + 3)
        until(lambda: any(frame.stamps.done > killed and frame.moved for frame in frames[-50:]))
        app.store.set("display_rate", 0)
        until(lambda: app.metrics.snapshot()["display.state"] == "off")
        until(lambda: frames[-1].stamps.taken > killed and not frames[-1].moved)
    finally:
        app.close()
