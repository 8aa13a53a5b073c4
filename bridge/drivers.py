"""Sources and sinks by name. A driver's module is imported when it is used, so a missing package is a sentence."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl

from bridge.errors import ConfigError, DriverMissing
from bridge.frame import Frame
from bridge.pacing import Pace


class Source(Protocol):
    """Where frames come from. Lives on a thread of its own; only `describe` is called from others.

    One with a true attribute `plays_once` (a movie) is opened when the first worker is ready, not before.
    """

    def open(self) -> None:
        """Acquire the device. Raises SourceError with a sentence when it can't."""

    def read(self, timeout: float) -> Frame | None:
        """The next frame, or None after `timeout` seconds. Raises SourceError when the device is gone."""

    def close(self) -> None:
        """Release everything; safe to call twice, and after a failed open."""

    def describe(self) -> str:
        """One line for people: what it is and where it stands."""


class Sink(Protocol):
    """Where finished frames go. Lives on a thread of its own.

    One with a true attribute `painted_only` gets pictures as they were painted, none that `display_rate` moved on.
    """

    pace: Pace

    def open(self) -> None:
        """Acquire the target. Raises SinkError with a sentence when it can't."""

    def write(self, frame: Frame) -> None:
        """Deliver one frame; may be the same frame again. Raises SinkError when the target is gone."""

    def close(self) -> None:
        """Flush and release everything; safe to call twice, and after a failed open."""

    def describe(self) -> str:
        """One line for people."""


SOURCES = {
    "scene": "bridge.sources.scene:SceneSource",
    "movie": "bridge.sources.movie:MovieSource",
    "camera": "bridge.sources.camera:CameraSource",
    "folder": "bridge.sources.folder:FolderSource",
    "still": "bridge.sources.still:StillSource",
    "zmq": "bridge.sources.zmq:ZmqSource",
    "shm": "bridge.sources.shm:ShmSource",
    "ndi": "bridge.sources.ndi:NdiSource",
    "spout": "bridge.sources.spout:SpoutSource",
    "syphon": "bridge.sources.syphon:SyphonSource",
    "cuda-ipc": "bridge.sources.cuda_ipc:CudaIpcSource",
}
SINKS = {
    "preview": "bridge.sinks.preview:PreviewSink",
    "zmq": "bridge.sinks.zmq:ZmqSink",
    "shm": "bridge.sinks.shm:ShmSink",
    "ndi": "bridge.sinks.ndi:NdiSink",
    "spout": "bridge.sinks.spout:SpoutSink",
    "syphon": "bridge.sinks.syphon:SyphonSink",
    "cuda-ipc": "bridge.sinks.cuda_ipc:CudaIpcSink",
    "movie": "bridge.sinks.movie:MovieSink",
    "null": "bridge.sinks.null:NullSink",
}
EXTRAS: dict[str, str] = {"cyndilib": "ndi", "SpoutGL": "spout", "syphon": "syphon"}
"""Import name → the extra that brings it, for the sentence of DriverMissing."""
SYSTEMS = {"spout": ("win32", "Windows"), "syphon": ("darwin", "macOS")}
"""Driver → the only system that has it: `sys.platform`, and its name."""


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """`name[:target][?key=value&key=value]`, for example `movie:clip.mp4?loop=0` or `zmq:tcp://127.0.0.1:5571`."""

    name: str
    target: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> DriverSpec:
        head, _, query = text.partition("?")
        name, _, target = head.partition(":")
        return cls(name, target, dict(parse_qsl(query, keep_blank_values=True)))

    def take(self, **types: Callable[[str], Any]) -> dict[str, Any]:
        """The options, converted; an unknown key or a value that does not convert is a ConfigError."""
        out: dict[str, Any] = {}
        for key, text in self.options.items():
            convert = types.get(key)
            if convert is None:
                known = ", ".join(sorted(types)) or "none"
                raise ConfigError(f"{self.name}: unknown option {key!r} (known: {known})")
            try:
                out[key] = convert(text)
            except ValueError as error:
                raise ConfigError(f"{self.name}: {key}={text!r}: {error}") from error
        return out


def flag(text: str) -> bool:
    """`1 true yes on` or `0 false no off`, for `DriverSpec.take`."""
    low = text.lower()
    if low in ("1", "true", "yes", "on"):
        return True
    if low in ("0", "false", "no", "off"):
        return False
    raise ValueError("expected 1 or 0")


def at_home(name: str) -> bool:
    """Whether this system has what the driver `name` speaks to."""
    return name not in SYSTEMS or SYSTEMS[name][0] == sys.platform


def _load(kind: str, table: dict[str, str], spec: DriverSpec, context: Any) -> Any:
    entry = table.get(spec.name)
    if entry is None:
        raise ConfigError(f"no {kind} {spec.name!r}; there are: {', '.join(sorted(table))}")
    if not at_home(spec.name):
        raise DriverMissing(f"{kind} {spec.name!r} is there on {SYSTEMS[spec.name][1]} only; here take shm, zmq or ndi")
    module_name, _, class_name = entry.partition(":")
    try:
        return getattr(importlib.import_module(module_name), class_name).from_spec(spec, context)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(missing)
        hint = f"`pip install livelatent[{extra}]`" if extra else f"the Python package {missing!r}"
        raise DriverMissing(f"{kind} {spec.name!r} needs {hint}") from error


def make_source(text: str, context: Any) -> Source:
    """Build the source that `text` names. Every driver class has `from_spec(spec, context)`."""
    source: Source = _load("source", SOURCES, DriverSpec.parse(text), context)
    return source


def make_sink(text: str, context: Any) -> Sink:
    """Build the sink that `text` names."""
    sink: Sink = _load("sink", SINKS, DriverSpec.parse(text), context)
    return sink
