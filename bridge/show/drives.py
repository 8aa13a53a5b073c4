"""The schedules that are at work: which parameter each moves, who has it in hand, and what it gives at a frame.

Worked out once a frame, inside the store's snapshot, on the bridge's clock: a worker that dies takes none of it along.
A move of the same parameter by hand takes over (a latch) until it is released.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from bridge.clock import now_ns, seconds
from bridge.errors import ParamError
from bridge.metrics import Metrics
from bridge.show.tempo import Leader, Tempo
from pipelines.drive import Bounds, Drive, Instant, Shared, compile_drive
from pipelines.expr import ExprError
from pipelines.params import ParamSpec, table
from pipelines.promptlang.timeline import Timeline

Value = bool | int | float | str

MAX_INPUTS = 256
MAX_LENGTH = 1e6
TIMES = frozenset({"tempo", "tempo_source", "beats_per_bar", "prompt_fps"})
"""Rows that schedules are timed by."""
_LIVE = re.compile(r"\b(?:beat|bar|phase|in\.[A-Za-z_]\w{0,31})\b", re.ASCII)


@dataclass(slots=True)
class Driven:
    """One parameter under a schedule."""

    spec: ParamSpec
    text: str
    drive: Drive
    began_s: float
    began_beat: float
    line: Timeline
    """Counts Deforum's frames."""
    last: Value | None = None
    """The last good value, which holds where there is none."""
    latched: bool = False


class Drives:
    """Thread-safe. The store calls `move` and `taken` under its own lock; nothing here calls the store."""

    def __init__(self, metrics: Metrics, clock: Callable[[], int] = now_ns) -> None:
        self._metrics, self._clock = metrics, clock
        self._lock = threading.Lock()
        self._driven: dict[str, Driven] = {}
        self._inputs: dict[str, float] = {}
        self._fps = 15.0
        self._prompt_lives = False
        self.tempo = Tempo(seconds(clock()))
        self.leaders: dict[str, Leader] = {}
        """Other clocks, by what `tempo_source` calls them."""
        self.source = "own"
        """What the last frame's `tempo_source` said."""
        self.led = False
        """Whether that clock is there, and so the tempo is its own."""

    # What others ask

    def attach(self, name: str, text: str, length: float | None = None, at_ns: int | None = None) -> None:
        """Move this row by `text` from now on, instead of what moved it before. Raises ParamError."""
        spec = scheduled(name)
        if length is not None and not 1 <= length <= MAX_LENGTH:
            raise ParamError(f"the length of a schedule is 1 to {MAX_LENGTH:g}")
        bounds = Bounds(float(spec.low or 0.0), float(1.0 if spec.high is None else spec.high))
        try:
            drive = compile_drive(text, bounds, length)
        except ExprError as error:
            raise ParamError(f"the schedule of {name}: {error}") from error
        at_s = seconds(self._clock() if at_ns is None else at_ns)
        with self._lock:
            line = Timeline.start(at_s, 0.0, self._fps)
            self._driven[name] = Driven(spec, text, drive, at_s, self.tempo.beat(at_s), line)
            self._report()

    def detach(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in self._driven.keys() & set(names):
                del self._driven[name]
            self._report()

    def release(self, name: str = "") -> None:
        """Let the schedule have this parameter again, or all of them."""
        with self._lock:
            for driven in self._driven.values():
                if name in ("", driven.spec.name):
                    driven.latched = False
            self._report()

    def texts(self) -> dict[str, str]:
        """The schedules by parameter."""
        with self._lock:
            return {name: driven.text for name, driven in self._driven.items()}

    def put(self, inputs: Mapping[str, float]) -> None:
        """Values of named inputs: `bass` is `in.bass`. Raises ParamError when there are too many names."""
        with self._lock:
            for name, value in inputs.items():
                key = f"in.{name}"
                if key not in self._inputs and len(self._inputs) >= MAX_INPUTS:
                    raise ParamError(f"there are {MAX_INPUTS} inputs already")
                self._inputs[key] = value

    def tap(self, at_s: float) -> float | None:
        with self._lock:
            return self.tempo.tap(at_s, moves=not self.led)

    def downbeat(self, at_s: float) -> None:
        with self._lock:
            self.tempo.downbeat(at_s)

    def follow(self, at_s: float) -> None:
        """Let the clock that leads set the beat, before a frame at this time is worked out."""
        leader = self.leaders.get(self.source)
        line = leader(at_s) if leader is not None else None
        with self._lock:
            self.led = line is not None
            if line is not None:
                self.tempo.follow(at_s, line, self.tempo.per_bar)

    # What the store asks, under its lock

    @property
    def busy(self) -> bool:
        """Whether a frame without any change has other values than the one before it."""
        return self._prompt_lives or any(not driven.latched for driven in self._driven.values())

    def taken(self, name: str) -> Value | None:
        """Somebody moves this row by hand. Where the schedule had it, if one did."""
        with self._lock:
            driven = self._driven.get(name)
            if driven is None or driven.latched:
                return None
            driven.latched = True
            self._report()
            return driven.last

    def moved(self) -> dict[str, Value]:
        """Where each row that moves was at the last frame."""
        with self._lock:
            return {n: d.last for n, d in self._driven.items() if not d.latched and d.last is not None}

    def move(self, at_ns: int, values: dict[str, Value]) -> dict[str, float] | None:
        """Overwrite what schedules move, for a frame at this time. The live variables that the prompt asks for."""
        at_s = seconds(at_ns)
        with self._lock:
            source, per_bar = str(values["tempo_source"]), int(values["beats_per_bar"])
            if source != self.source or not self.led:
                # A leader that has fallen silent leaves its tempo in the row: the beat goes on as it was.
                self.tempo.turn(at_s, float(values["tempo"]), per_bar)
            self.source, self.tempo.per_bar = source, per_bar
            self._fps = float(values["prompt_fps"])
            wanted = _live(f"{values['prompt']}{values['negative']}")
            self._prompt_lives = bool(wanted)
            if not (self._driven or wanted):
                return None
            shared = self._shared(at_s, values)
            for driven in self._driven.values():
                if not driven.latched:
                    self._move(driven, at_s, shared)
                    if driven.last is not None:
                        values[driven.spec.name] = driven.last
            return {name: shared.values[name] for name in wanted if name in shared.values} or None

    def _shared(self, at_s: float, values: Mapping[str, Value]) -> Shared:
        beat, per_bar = self.tempo.beat(at_s), float(self.tempo.per_bar)
        seed = float(values["seed"])
        mine = {"beat": beat, "bar": beat // per_bar, "phase": beat % 1.0, "fps": self._fps, "seed": seed, "s": seed}
        return Shared({**mine, "strength": float(values["strength"]), **self._inputs}, per_bar)

    def _move(self, driven: Driven, at_s: float, shared: Shared) -> None:
        driven.line = driven.line.turn(at_s, 0.0, self._fps)
        at = Instant(at_s - driven.began_s, driven.line.at(at_s).frames, shared.values["beat"] - driven.began_beat)
        value = fitted(driven.spec, driven.drive(at, shared))
        if value is None:
            self._metrics.count("schedule.refused")
        else:
            driven.last = value

    def _report(self) -> None:
        parts = (d.spec.address + " (held)" * d.latched for d in self._driven.values())
        self._metrics.gauge("schedule.active", " ".join(parts))


@lru_cache(maxsize=16)
def _live(text: str) -> tuple[str, ...]:
    """The live variables in a prompt's mathematics."""
    return tuple(sorted(set(_LIVE.findall(text)))) if "`" in text else ()


def scheduled(name: str) -> ParamSpec:
    """The row, if a schedule can move it. Raises ParamError."""
    spec = table().get(name)
    if spec is None:
        raise ParamError(f"no parameter {name[:40]!r}")
    if spec.kind != "live" or name in TIMES:
        raise ParamError(
            f"{name} can't be scheduled: a frame must be able to change it, and time must not depend on it"
        )
    return spec


def fitted(spec: ParamSpec, value: float | str) -> Value | None:
    """As this row takes it, brought into its range; None where it is no value for it."""
    if isinstance(value, str) or spec.type is str:
        try:
            return spec.coerce(value)
        except ValueError:
            return None
    if not math.isfinite(value):
        return None
    if spec.type is bool:
        return value != 0.0
    value = value if spec.low is None else max(spec.low, value)
    value = value if spec.high is None else min(spec.high, value)
    return float(value) if spec.type is float else round(value / spec.step) * spec.step
