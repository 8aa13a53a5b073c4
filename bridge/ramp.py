"""A number on its way: from where it was to where it was told to go, in the time that the message gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines.params import ParamSpec

RampCurve = Literal["linear", "ease", "in", "out"]
RAMP_CURVES: Mapping[RampCurve, Callable[[float], float]] = {
    "linear": lambda u: u,
    "ease": lambda u: u * u * (3.0 - 2.0 * u),
    "in": lambda u: u * u,
    "out": lambda u: u * (2.0 - u),
}
"""How far a move has come when a share of its time is over: evenly, slow at both ends, at its start, at its end."""


def travel(spec: ParamSpec, value: float) -> float:
    """Where a control of this row stands at `value`: 0 at its low end, 1 at its high end, along its curve."""
    low, high, shape = _range(spec)
    if shape == "log":
        return math.log(value / low) / math.log(high / low)
    part = (value - low) / (high - low)
    return float(part**0.5) if shape == "square" else part


def at_travel(spec: ParamSpec, position: float) -> float:
    """The inverse of `travel`: the value of this row with its control at `position`, 0 to 1."""
    low, high, shape = _range(spec)
    if shape == "log":
        return float(low * (high / low) ** position)
    return low + (high - low) * (position * position if shape == "square" else position)


@dataclass(frozen=True, slots=True)
class Ramp:
    """Moves along the control's travel, evenly if its curve is, as a hand on a slider would: a `log` row by factors."""

    spec: ParamSpec
    start: float
    target: float
    start_ns: int
    end_ns: int
    curve: RampCurve = "linear"

    def done(self, at_ns: int) -> bool:
        return at_ns >= self.end_ns

    def at(self, at_ns: int) -> int | float:
        """The value at this time: the start before it began, exactly the target once over; whole for an int row."""
        if self.done(at_ns):
            return self._typed(self.target)
        part = RAMP_CURVES[self.curve](max(0.0, (at_ns - self.start_ns) / (self.end_ns - self.start_ns)))
        begin, end = travel(self.spec, self.start), travel(self.spec, self.target)
        value = at_travel(self.spec, begin + (end - begin) * part)
        # Rounding must not carry a value past where it was sent, nor past its range.
        low, high = sorted((self.start, self.target))
        return self._typed(min(max(value, low), high))

    def _typed(self, value: float) -> int | float:
        return round(value) if self.spec.type is int else float(value)


def _range(spec: ParamSpec) -> tuple[float, float, Literal["linear", "log", "square"]]:
    if spec.low is None or spec.high is None or spec.low >= spec.high:
        return 0.0, 1.0, "linear"
    if spec.curve == "log" and spec.low <= 0:
        return spec.low, spec.high, "linear"
    return spec.low, spec.high, spec.curve
