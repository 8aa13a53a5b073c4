"""A component in the fake TouchDesigner, built by its own builder, with everything that tests do to it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support.ports import free_port
from td.fake.world import World

from bridge.tox.cli import line

ROOT = Path(__file__).resolve().parents[2]
BLACK = 8
"""A picture with nothing brighter in it is black."""


def build(world: World, folder: Path) -> Any:
    """Copy td/ to `folder` and run the builder from there, as the Textport's line does."""
    if not (folder / "td").is_dir():
        shutil.copytree(ROOT / "td", folder / "td", ignore=shutil.ignore_patterns("__pycache__"))
    return world.textport(line(folder / "td"))["component"]


def command(folder: Path) -> str:
    """What starts this checkout's livelatent, whatever the environment says."""
    script = folder / "livelatent"
    # exec: what Stop and the tests signal must be the program, not a shell before it.
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m bridge "$@"\n', "utf-8")
    script.chmod(0o755)
    return str(script)


def corner(height: int = 256, width: int = 256, shift: int = 0) -> np.ndarray:
    """(h, w, 3) uint8, top row first: red above left, green above right, blue below left, grey below right."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (230, 20, 20)
    picture[: height // 2, width // 2 :] = (20, 200, 20)
    picture[height // 2 :, : width // 2] = (20, 20, 230)
    picture[height // 2 :, width // 2 :] = (128, 128, 128)
    return np.roll(picture, shift, axis=1)


def dominant(picture: np.ndarray) -> dict[str, int]:
    """Which colour leads in three quarters of what became of `corner()`: 0 red, 1 green, 2 blue."""
    height, width = (side // 2 for side in picture.shape[:2])
    parts = {"red": picture[:height, :width], "green": picture[:height, width:], "blue": picture[height:, :width]}
    return {name: int(np.argmax(part[..., :3].reshape(-1, 3).mean(0))) for name, part in parts.items()}


class Stage:
    """A project with a movie wired into the component and something that looks at what comes out."""

    def __init__(self, folder: Path, deferred: bool = True, kind: str = "moviefileinTOP", gpu: Any = None) -> None:
        self.folder, self.world = folder, World(deferred, str(folder), gpu)
        self.project = self.world.op("/project1")
        self.comp = build(self.world, folder)
        self.movie = self.project.create(kind, "movie")
        self.movie.outputConnectors[0].connect(self.comp.inputConnectors[0])
        self.out = self.project.create("outTOP", "screen")
        self.out.inputConnectors[0].connect(self.comp.outputConnectors[0])
        self.movie._show(corner())
        self.seen: list[np.ndarray] = []

    @property
    def ext(self) -> Any:
        return self.comp.ext.LiveLatent

    def par(self, name: str) -> Any:
        return getattr(self.comp.par, name).eval()

    def frame(self, fps: float = 60.0) -> None:
        start = time.perf_counter()
        self.world.frame()
        time.sleep(max(0.0, 1 / fps - (time.perf_counter() - start)))

    def until(self, condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> float:
        """Frames until it holds; how many seconds that took."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < seconds, (what, self.figures())
            self.frame()
        return time.monotonic() - start

    def figures(self) -> dict[str, Any]:
        names = ("State", "Status", "Error", "Fps", "Sent", "Received", "Roundtrip", "Bridge")
        return {name: self.par(name) for name in names} | {"log": list(self.ext.bridge.lines)[-5:]}

    def close(self) -> None:
        self.world.close()


def ready(folder: Path, arguments: str = "--no-web --engine fake", **more: Any) -> Stage:
    """A stage on ports and names of its own; nothing is started yet."""
    stage, tag = Stage(folder, **more), f"{os.getpid()}-{free_port()}"
    values = {"Command": command(folder), "Arguments": arguments, "Inname": f"lltd-i{tag}", "Outname": f"lltd-o{tag}"}
    values |= {name: free_port() for name in ("Oscport", "Listenport", "Inport", "Outport")}
    for name, value in values.items():
        setattr(stage.comp.par, name, value)
    stage.frame()
    return stage
