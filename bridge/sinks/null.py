"""A sink that keeps nothing but the last frame: for benchmarks and tests, and for runs that are only watched."""

from __future__ import annotations

import threading

from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import ConfigError, SinkError
from bridge.frame import Frame
from bridge.pacing import Pace
from bridge.sources.options import fps


class NullSink:
    """`null[?fps=60]`: every new frame as soon as it is there, or a fixed rate with repeats.

    `written` counts writes, `fresh` those with another frame than the write before, `last` is the newest frame.
    """

    def __init__(self, fps: float | None = None) -> None:
        self.pace = Pace(fps=fps)
        self.written = 0
        self.fresh = 0
        self.last: Frame | None = None
        self._open = False
        self._lock = threading.Lock()

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> NullSink:
        if spec.target:
            raise ConfigError(f"null takes options only, not {spec.target!r}")
        return cls(**spec.take(fps=fps))

    def open(self) -> None:
        self._open = True

    def write(self, frame: Frame) -> None:
        if not self._open:
            raise SinkError("null: written to before it was opened or after it was closed")
        with self._lock:
            self.fresh += self.last is None or frame.seq != self.last.seq
            self.written += 1
            self.last = frame

    def close(self) -> None:
        self._open = False

    def describe(self) -> str:
        with self._lock:
            return f"null, {self.written} frames"
