"""A store and a director on a clock that a test turns by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.clock import NS
from bridge.metrics import Metrics
from bridge.show.director import Director
from bridge.store import ParamStore
from engines import paths
from pipelines.params import Params

T0 = 1_000_000 * NS
FRAME_S = 1 / 60


class Theatre:
    def __init__(self, picture: Callable[[], bytes | None] = lambda: None, **initial: object) -> None:
        self.at_ns = T0 + 10**15  # later than the clock that the store was made with
        self.metrics = Metrics()
        self.store = ParamStore(
            Params(**initial),
            {kind: lambda: ("none",) for kind in ("controlnets", "loras", "ipadapters")}
            | {"models": lambda: ("pocket",)},
        )  # type: ignore[arg-type]
        self.director = Director(self.store, self.metrics, lambda: self.at_ns, picture)
        self.frame()

    def frame(self) -> Params:
        return self.director.snapshot(self.at_ns)

    def after(self, seconds: float) -> Params:
        """The frame after so many seconds without any."""
        self.at_ns += round(seconds * NS)
        return self.frame()

    def run(self, seconds: float) -> list[Params]:
        """Every frame of so many seconds."""
        return [self.after(FRAME_S) for _ in range(round(seconds / FRAME_S))]

    def gauge(self, name: str) -> float | str:
        self.director.tick()
        return self.metrics.snapshot()[name]


def write_look(name: str, text: str) -> Path:
    """A look of the user's own."""
    return _write("looks", name, text)


def write_show(name: str, text: str) -> Path:
    return _write("shows", name, text)


def _write(kind: str, name: str, text: str) -> Path:
    path = paths.home() / kind / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path
