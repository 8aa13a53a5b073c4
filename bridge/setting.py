"""A change of one row of the parameter table, and what may change rows by itself: what the store speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from bridge.ramp import RampCurve

Value = bool | int | float | str


class Setting(NamedTuple):
    """A change that has passed every check; applying it can't fail."""

    name: str
    value: Value
    over_s: float | None = None
    """Seconds that the message gave; None if it gave none."""
    origin: object = None
    """Who asked. That one is not told of its own change."""
    curve: RampCurve = "linear"


class Drives(Protocol):
    """What moves rows by itself. Called under the store's lock, so it must not call the store."""

    @property
    def busy(self) -> bool:
        """Whether it moves any."""

    def taken(self, name: str) -> Value | None:
        """Somebody else moves this row: from where?"""

    def move(self, at_ns: int, values: dict[str, Value]) -> dict[str, float] | None:
        """Overwrite what it moves. The live variables that the prompt asks for, by name."""

    def moved(self) -> Mapping[str, Value]:
        """What it moved last."""
