"""The pictures in a folder, one after the other."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bridge.clock import NS, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec, flag
from bridge.errors import ConfigError, SourceEnded, SourceError
from bridge.frame import Frame, Pixels, Stamps
from bridge.metrics import Metrics
from bridge.sources.images import SUFFIXES, load
from bridge.sources.options import fps
from bridge.sources.still import Signature, signature
from bridge.sources.ticks import Ticks

LOOK_EVERY_NS = NS // 2
"""How often the folder is looked at; it is listed only if its own time stamp has changed."""


class FolderSource:
    """`folder:PATH[?fps=30&loop=1]`: PNG, JPEG, WebP and BMP in natural order (2 before 10), one a tick.

    Pictures that are added or taken away while it runs are noticed. One that can't be read is passed over and counted.
    An empty folder is waited at, without error, once it has been opened.
    """

    def __init__(
        self, path: Path, metrics: Metrics, *, fps: float = 30.0, loop: bool = True, every_frame: bool = False
    ) -> None:
        self.path, self.fps, self.loop = path, fps, loop
        self._metrics = metrics
        self._ticks = Ticks(fps, free=every_frame)
        self._own_time = every_frame
        self._paths: list[Path] | None = None
        self._broken: dict[Path, Signature | None] = {}
        self._next = self._seq = self._looked_ns = self._listed_ns = 0
        self._ready: Pixels | None = None

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> FolderSource:
        if not spec.target:
            raise ConfigError("folder needs a folder: folder:PATH")
        every = context.config.every_frame
        options = {"loop": not every, **spec.take(fps=fps, loop=flag)}
        return cls(Path(spec.target).expanduser(), context.metrics, **options, every_frame=every)

    def open(self) -> None:
        self.close()
        if not self.path.is_dir():
            raise SourceError(f"{self.path} is {'a file, not a folder' if self.path.exists() else 'not there'}")
        self._list()
        self._next = 0
        self._ready = self._load_next()
        if self._ready is None:
            raise SourceError(f"{self.path} has no picture that can be read (PNG, JPEG, WebP, BMP)")
        self._ticks.restart()

    def read(self, timeout: float) -> Frame | None:
        if self._paths is None:
            raise SourceError(f"folder: {self.path} is not open")
        tick = self._ticks.wait(timeout)
        if tick is None:
            return None
        self._look()
        pixels = self._ready if self._ready is not None else self._load_next()
        self._ready = None
        if pixels is None:
            return None
        media_ns = round(self._seq * NS / self.fps) if self._own_time else -1
        frame = Frame(pixels, self._seq, Stamps(captured=now_ns()), media_ns)
        self._seq += 1
        return frame

    def _load_next(self) -> Pixels | None:
        """The next picture that can be read; None when none can. SourceEnded after the last one without loop."""
        paths = self._paths or []
        for _ in range(len(paths)):
            if self._next >= len(paths):
                if not self.loop:
                    raise SourceEnded(f"{self.path.name}: all {len(paths)} pictures shown")
                self._next = 0
            path = paths[self._next]
            self._next += 1
            pixels = self._try(path)
            if pixels is not None:
                return pixels
        if not self.loop:
            raise SourceEnded(f"{self.path.name}: all {len(paths)} pictures shown")
        return None

    def _try(self, path: Path) -> Pixels | None:
        found = signature(path)
        if path in self._broken and self._broken[path] == found:
            return None
        try:
            pixels = load(path)
        except SourceError:
            self._broken[path] = found
            self._metrics.count("source.errors")
            return None
        self._broken.pop(path, None)
        return pixels

    def _look(self) -> None:
        at = now_ns()
        if at - self._looked_ns < LOOK_EVERY_NS:
            return
        self._looked_ns = at
        changed = signature(self.path)
        if changed is not None and changed[0] != self._listed_ns:
            self._list()

    def _list(self) -> None:
        """Read the folder anew, and go on after the picture that was shown last, wherever that is now."""
        shown = self._paths[self._next - 1] if self._paths and self._next else None
        found = signature(self.path)
        self._listed_ns = found[0] if found else 0
        try:
            with os.scandir(self.path) as entries:
                names = [
                    e.name for e in entries if Path(e.name).suffix.lower() in SUFFIXES and not e.name.startswith(".")
                ]
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror}") from error
        self._paths = [self.path / name for name in sorted(names, key=natural)]
        self._broken = {path: mark for path, mark in self._broken.items() if path in set(self._paths)}
        if shown is not None:
            key = natural(shown.name)
            self._next = sum(natural(p.name) <= key for p in self._paths)

    def close(self) -> None:
        self._paths = self._ready = None

    def describe(self) -> str:
        paths = self._paths
        return f"{self.path.name}, {len(paths)} pictures" if paths is not None else f"{self.path.name} (closed)"


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key under which `a2` comes before `a10`."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], name
