"""A bridge without worker: a store, figures and a thread that publishes moving pictures, for the page to show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bridge.clock import MS, now_ns
from bridge.config import Config, WebConfig
from bridge.frame import Frame, Pixels, Stamps
from bridge.metrics import Metrics
from bridge.preview import PreviewHub
from bridge.show.acts import Acts
from bridge.show.director import Director
from bridge.store import ParamStore
from bridge.web.pictures import thumbnail
from bridge.web.server import WebServer
from pipelines.params import Params

MODELS = ("pocket", "sd-turbo")


def picture(seq: int, side: int, tint: tuple[float, float, float]) -> Pixels:
    """A disc on a gradient that goes round once in 120 frames; red in the top left corner tells the shelf apart."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = seq * 2 * np.pi / 120
    disc = np.hypot(x - 0.5 - 0.28 * np.cos(angle), y - 0.5 - 0.28 * np.sin(angle)) < 0.16
    rings = 0.5 + 0.5 * np.sin(40 * np.hypot(x - 0.5, y - 0.5) - seq / 6)
    base = (0.25 + 0.5 * y) * (0.6 + 0.4 * rings)
    out = np.stack([np.where(disc, 1.0 - 0.5 * part, base * part) for part in tint], axis=-1)
    return (out * 255).astype(np.uint8)


def until(test: Callable[[], bool], what: str) -> None:
    """Wait for something that happens by itself."""
    deadline = time.monotonic() + 60.0
    while not test():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Stage:
    """Everything around the page. `start` listens, `stop` leaves no thread behind, or fails."""

    def __init__(self, config: Config | None = None, commands: Mapping[str, Callable[[], None]] | None = None) -> None:
        self._before = set(threading.enumerate())
        self.config = config or Config(web=WebConfig(port=0))
        none = {kind: lambda: ("none",) for kind in ("controlnets", "loras", "ipadapters")}
        self.store = ParamStore(Params(), {"models": lambda: MODELS, **none})
        self.metrics = Metrics()
        self.hub = PreviewHub()
        self.director = Director(self.store, self.metrics, picture=lambda: thumbnail(self.hub))
        self.acts = Acts(self.director)
        self.commands = {**self.acts.commands, **(commands or {})}
        self.server = self._serve()
        self._stopped = threading.Event()
        self._painter: threading.Thread | None = None

    def _serve(self) -> WebServer:
        return WebServer(self.config, self.store, self.metrics, self.hub, self.commands, self.acts)

    def start(self) -> Stage:
        self.server.start()
        return self

    def restart(self, config: Config) -> None:
        """A new server, as after a restart of the program."""
        self.server.stop()
        self.config = config
        self.server = self._serve()
        self.server.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._painter is not None:
            self._painter.join(30)
        self.server.stop()
        assert not [t.name for t in threading.enumerate() if t not in self._before and t.name.startswith("ll-")]

    def publish(self, seq: int = 0, side: int = 64, **shelves: Any) -> None:
        """One picture on each shelf, or the given pixels."""
        at = now_ns()
        pictures = shelves or {
            "input": picture(seq, side, (0.6, 0.7, 0.8)),
            "output": picture(seq, side, (0.9, 0.3, 0.6)),
        }
        for shelf, pixels in pictures.items():
            stamps = Stamps(at - 40 * MS, at - 39 * MS, at - 38 * MS, at - MS)
            self.hub.publish(shelf, Frame(pixels, seq, stamps, version=self.director.snapshot().version))

    def play(self, fps: float = 60, side: int = 256, frames: int = 120) -> None:
        """Publish moving pictures, and figures that fit them, until the end."""
        self._painter = threading.Thread(
            target=self._paint, args=(fps, side, frames), name="ll-test-painter", daemon=True
        )
        self._painter.start()

    def _paint(self, fps: float, side: int, count: int) -> None:
        inputs = [picture(i, side, (0.6, 0.7, 0.8)) for i in range(count)]
        outputs = [picture(i, side, (0.95, 0.35, 0.6)) for i in range(count)]
        self.metrics.gauge("state", "running")
        self.metrics.gauge("source", f"scene {side}x{side} at {fps:g} frames/s")
        self.metrics.gauge("model", f"pocket {side}x{side}")
        seq, due = 0, time.monotonic()
        while not self._stopped.is_set():
            self.publish(seq, input=inputs[seq % count], output=outputs[seq % count])
            self.director.tick()
            self.metrics.observe("latency", 38 + 4 * np.sin(seq / 9) + (seq % 37 == 0) * 9)
            for name, took in {"fed": 0.3, "wait": 1.2, "frame": 36.0, "out": 0.6}.items():
                self.metrics.observe(name, took)
            self.metrics.gauge("age", 12.0)
            seq, due = seq + 1, due + 1 / fps
            self._stopped.wait(max(0, due - time.monotonic()))
