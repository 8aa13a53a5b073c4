"""The bare networks of a stream, measured in turns with the loop around them: what the machine does besides falls on
both alike."""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

from msgspec import convert

from bridge.app import App
from pipelines.params import Params
from pipelines.spec import Engine, StreamSpec, structural

ROUNDS = 8
SETTLES_S = 0.3
"""After a pause begins or ends, before something is measured."""


@dataclass(frozen=True)
class Round:
    """One turn of the loop, and of the networks after it."""

    took: float
    """Seconds of the loop's."""
    values: dict[str, list[float]]
    """What the loop observed in it, milliseconds."""
    bare_ms: float

    def over(self) -> float:
        """How much longer than its networks a picture takes, as a share of them, by how many come a second."""
        return self.took * 1e3 / max(1, len(self.values["frame"])) / self.bare_ms - 1.0

    def worker_over(self) -> float:
        """The same of a worker's time for a picture."""
        return statistics.median(self.values["frame"]) / self.bare_ms - 1.0


class Bare:
    """The same model, engine and size as the loop's, in this process."""

    def __init__(self, args: argparse.Namespace) -> None:
        import numpy as np

        from pipelines.bench_step import networks
        from pipelines.build import build
        from pipelines.stream import DiffusionStream

        params = Params(model=args.model, width=args.size, height=args.size)
        spec = StreamSpec(engine=convert(args.engine, Engine), dtype=args.dtype)
        stream = build(structural(spec, params), params)
        assert isinstance(stream, DiffusionStream), "networks are measured, and the fake engine has none"
        stream(np.zeros((args.size, args.size, 3), np.uint8), params)
        self._stream, self._run, self._seconds = stream, networks(stream), args.seconds / ROUNDS / 2

    def beside(self, app: App) -> float:
        """Milliseconds of a frame's networks, the median while `app` pauses; it paints again when this returns."""
        app.store.set("pause", True)
        time.sleep(SETTLES_S)
        try:
            times: list[float] = []
            until = time.perf_counter() + self._seconds
            while time.perf_counter() < until:
                began = time.perf_counter()
                self._run()
                times.append(time.perf_counter() - began)
        finally:
            app.store.set("pause", False)
            time.sleep(SETTLES_S)
        return statistics.median(times) * 1e3

    def close(self) -> None:
        self._stream.close()
