"""A preprocessor with a network, chosen by OSC in a run with a real worker: pulled or not, the picture goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from pythonosc.udp_client import SimpleUDPClient

from bridge.app import App
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.frame import Frame
from tests.support import hintnets
from tests.support.posenets import write_pose

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(240)]

UNIT = {"control1_on": True, "control1_model": "pocket-edge", "control1_weight": 2.0, "control1_preprocessor": "none"}


class Run:
    """pocket at 64 x 64 painting one picture again and again."""

    def __init__(self, still: Path) -> None:
        config = Config(
            source=f"still:{still}?fps=30",
            sinks=("null",),
            params={"width": 64, "height": 64, **UNIT},
            worker=WorkerConfig(device="cpu", dtype="fp32", threads=1, standby=False, stall_s=60.0),
            osc=OscConfig(port=0),
            web=WebConfig(enabled=False),
        )
        self.app = App(config)
        self.last: Frame | None = None
        self.painted = 0
        self.app.output.sinks[0].tap = self._keep
        self.app.start()
        self.osc = SimpleUDPClient("127.0.0.1", self.app.control.port)

    def _keep(self, frame: Frame) -> None:
        self.painted += frame is not self.last  # not what is repeated
        self.last = frame

    def close(self) -> None:
        self.osc._sock.close()
        self.app.close()

    def until(self, condition: Callable[[], object], seconds: float = 100.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.app.metrics.snapshot()
            time.sleep(0.01)

    def said(self, what: str) -> str:
        return str(self.app.metrics.snapshot().get(f"control.{what}", ""))

    def send(self, **values: object) -> None:
        """Set rows of unit 1, and wait for the first picture that was made with all of them."""
        for name, value in values.items():
            self.osc.send_message(f"/ll/control/1/{name}", value)
        self.until(lambda: all(self.app.store.values()[f"control1_{name}"] == v for name, v in values.items()))
        wanted = self.app.store.snapshot().version
        self.until(lambda: self.last is not None and self.last.version >= wanted)

    def picture(self) -> np.ndarray:
        """One that was begun after this."""
        seen = self.painted
        self.until(lambda: self.painted > seen + 3)
        assert self.last is not None
        return self.last.pixels.astype(int)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    blobs = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "still.png"), cv2.resize(blobs, (64, 64), interpolation=cv2.INTER_CUBIC))
    folder = hintnets.write_depth(tmp_path / "depth", "depth-anything")
    people = write_pose(tmp_path / "pose")
    hintnets.register({"small-depth": ("depth", folder), "small-pose": ("pose", people)})
    made = Run(tmp_path / "still.png")
    yield made
    made.close()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def test_depth_is_chosen_by_osc_and_its_hint_acts(run: Run) -> None:
    run.until(lambda: run.said("state") == "1 pocket-edge")
    by_none = run.picture()
    run.send(on=False)
    plain = run.picture()
    assert apart(plain, by_none) > 1.0

    run.send(on=True, preprocessor="hed")
    run.until(lambda: run.said("error"))
    assert run.said("error") == ("unit 1: hed: hed is not here: run `livelatent models add FILE.safetensors --id hed`")
    assert apart(run.picture(), plain) < 0.5, "without a hint the unit rests, and the picture goes on"

    run.send(preprocessor="depth")
    run.until(lambda: run.said("state") == "1 pocket-edge" and not run.said("error"))
    by_depth = run.picture()
    assert apart(by_depth, plain) > 1.0
    assert apart(by_depth, by_none) > 1.0

    run.send(every=4)
    run.until(lambda: run.said("age") not in ("", "0.0"))
    assert apart(run.picture(), by_depth) < 1.0, "nothing moves, so the hint stays what it was"
    run.send(every=1)
    run.until(lambda: run.said("age") == "0.0")

    run.send(preprocessor="pose")
    run.until(lambda: run.said("state") == "1 pocket-edge" and run.said("age") not in ("", "0.0"))
    assert not run.said("error")
    assert apart(run.picture(), by_depth) > 1.0, "a skeleton, or the black of nobody, and no depth any more"
    assert run.app.metrics.snapshot().get("worker.restarts", 0) == 0
