"""A small untrained model under an id, for runs whose workers load it by that."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pythonosc.udp_client import SimpleUDPClient

from bridge.app import App
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.frame import Frame
from engines import modelfile

SIDE = 64


def register_model(folder: Path, name: str = "small", sampler: str = "turbo") -> None:
    """Put it into the user's models.toml, in place of what is there; worker processes read the same file."""
    file = modelfile.user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[models.{name}]\nfolder = "{folder.as_posix()}"\nsampler = "{sampler}"\n')


class Run:
    """A running show of small networks in worker processes, and what a person would see of it."""

    def __init__(self, standby: bool, **params: bool | int | float | str) -> None:
        """With the model `small` that `register_model` has put there."""
        self.app = App(
            Config(
                source=f"scene?size={SIDE}x{SIDE}&fps=20",
                sinks=("null",),
                params={"model": "small", "width": SIDE, "height": SIDE, **params},
                worker=WorkerConfig(
                    engine="eager", device="cpu", dtype="fp32", threads=1, standby=standby, stall_s=30.0
                ),
                osc=OscConfig(port=0),
                web=WebConfig(enabled=False),
            )
        )
        self.frames: list[Frame] = []
        self.app.output.sinks[0].tap = self.frames.append
        self.app.start()
        self.osc = SimpleUDPClient("127.0.0.1", self.app.control.port)

    def close(self) -> None:
        self.osc._sock.close()
        self.app.close()

    def until(self, condition: Callable[[], object], seconds: float = 400.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.app.metrics.snapshot()
            time.sleep(0.005)

    @property
    def painted(self) -> int:
        """Pictures so far; `frames` has each as often as it was shown."""
        return self.app.output.count

    def told(self, name: str) -> str:
        return str(self.app.metrics.snapshot().get(name, ""))

    def step(self) -> float:
        return float(self.app.metrics.snapshot().get("prompt.step", 0.0))
