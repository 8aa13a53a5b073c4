"""One picture, shown again and again; read anew when the file changes."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.clock import NS, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import ConfigError, SourceError
from bridge.frame import Frame, Pixels, Stamps
from bridge.metrics import Metrics
from bridge.sources.images import load
from bridge.sources.options import fps
from bridge.sources.ticks import Ticks

LOOK_EVERY_NS = NS // 4
"""How often the file is checked for a change."""

Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """Changes when the file does; None when it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


class StillSource:
    """`still:PATH[?fps=30]`. A change that can't be read, or a file that goes away, leaves the last picture on."""

    def __init__(self, path: Path, metrics: Metrics, fps: float = 30.0, every_frame: bool = False) -> None:
        self.path, self.fps = path, fps
        self._metrics = metrics
        self._ticks = Ticks(fps, free=every_frame)
        self._own_time = every_frame
        self._pixels: Pixels | None = None
        self._signature: Signature | None = None
        self._looked_ns = 0
        self._note = ""
        self._seq = 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> StillSource:
        if not spec.target:
            raise ConfigError("still needs a picture: still:PATH")
        path = Path(spec.target).expanduser()
        return cls(path, context.metrics, **spec.take(fps=fps), every_frame=context.config.every_frame)

    def open(self) -> None:
        self._signature = signature(self.path)
        self._pixels = load(self.path)
        self._looked_ns = now_ns()
        self._ticks.restart()

    def read(self, timeout: float) -> Frame | None:
        if self._pixels is None:
            raise SourceError(f"still: {self.path} is not open")
        tick = self._ticks.wait(timeout)
        if tick is None:
            return None
        self._look()
        media_ns = round(tick * NS / self.fps) if self._own_time else -1
        frame = Frame(self._pixels, self._seq, Stamps(captured=now_ns()), media_ns)
        self._seq += 1
        return frame

    def _look(self) -> None:
        at = now_ns()
        if at - self._looked_ns < LOOK_EVERY_NS:
            return
        self._looked_ns = at
        found = signature(self.path)
        if found == self._signature:
            return
        self._signature = found
        if found is None:
            self._note = ", gone; its last picture stays"
            return
        try:
            self._pixels, self._note = load(self.path), ""
        except SourceError as error:
            self._metrics.count("source.errors")
            self._note = f", not reloaded: {error}"

    def close(self) -> None:
        self._pixels = None

    def describe(self) -> str:
        pixels = self._pixels
        shape = f" {pixels.shape[1]}x{pixels.shape[0]}" if pixels is not None else ""
        return f"{self.path.name}{shape}{self._note}"
