"""Between where a control stands, 0 to 1, and a parameter's value; and soft take-over, so that nothing jumps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bridge.ramp import at_travel, travel
from bridge.store import Value
from pipelines.drive import CURVES
from pipelines.params import ParamSpec

INVERSE: Mapping[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "square": math.sqrt,
    "root": lambda u: u * u,
    "ease": lambda u: 0.5 - math.sin(math.asin(1.0 - 2.0 * u) / 3.0),
}
"""What undoes each of CURVES."""


class Travel(NamedTuple):
    """One parameter, over a part of its range."""

    spec: ParamSpec
    low: float
    """The value at 0; it may be the greater of the two."""
    high: float
    curve: str = "linear"

    def value(self, position: float) -> Value:
        """With the control at `position`, 0 to 1: within the row's range and of its type."""
        spec, shaped = self.spec, CURVES[self.curve](min(1.0, max(0.0, position)))
        if spec.choices:
            return spec.choices[min(len(spec.choices) - 1, int(shaped * len(spec.choices)))]
        if spec.type is bool:
            return bool(self.low + (self.high - self.low) * shaped >= 0.5)
        if shaped in (0.0, 1.0):
            value = self.high if shaped else self.low  # exactly
        else:
            begin, end = travel(spec, self.low), travel(spec, self.high)
            value = float(f"{at_travel(spec, begin + (end - begin) * shaped):.6g}")
            value = min(max(value, min(self.low, self.high)), max(self.low, self.high))
        return value if spec.type is float else round(value / spec.step) * spec.step

    def position(self, value: Value) -> float:
        """Where a control stands at this value; at the nearer end for one that is out of reach."""
        spec = self.spec
        if spec.choices:
            part = (spec.choices.index(str(value)) + 0.5) / len(spec.choices) if value in spec.choices else 0.0
        elif self.low == self.high:
            return 0.0
        elif spec.type is bool:
            part = (float(value) - self.low) / (self.high - self.low)
        else:
            begin, end = travel(spec, self.low), travel(spec, self.high)
            part = (travel(spec, float(value)) - begin) / (end - begin)
        return INVERSE[self.curve](min(1.0, max(0.0, part)))


class Pickup:
    """Lets a control take over once it has reached or passed the value, and keep it until somebody else moves that."""

    def __init__(self, near: float) -> None:
        """`near`: a distance that counts as none, the control's own steps."""
        self._near = near
        self._last: float | None = None
        self._mine: Value | None = None
        """The value that this control has set; None while it does not have it."""

    def takes(self, position: float, here: Value, at: float) -> bool:
        """Whether the control, now at `position`, moves the value, which is `here` and at the position `at`."""
        last, self._last = self._last, position
        if self._mine is not None and self._mine == here:
            return True
        self._mine = None
        passed = last is not None and min(last, position) <= at <= max(last, position)
        return passed or abs(position - at) <= self._near

    def took(self, value: Value) -> None:
        self._mine = value
