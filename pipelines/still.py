"""What a recorded frame may read: tensors, whose addresses hold still, and its mode. Nothing else.

A graph is played again without Python. A number that Python read while it was recorded would be baked in, and a slider
would move nothing any more. So whoever records hands `step` knobs and memories that give no numbers away.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np

from pipelines.image import ImageKnobs
from pipelines.knobs import Knobs, Mode, Traits
from pipelines.state import StreamState
from pipelines.units import UnitKnobs

T = TypeVar("T", bound=Knobs | StreamState | UnitKnobs | ImageKnobs)
CONSTANT = frozenset({"prediction"})
"""A model's own, which no parameter changes."""


class BakedIn(RuntimeError):
    """A recorded frame reads, or leaves behind, what no graph would read or leave when it is played again."""


class _Still:
    """Mixed into the class of what is read."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("__") or name in CONSTANT or isinstance(value, (Mode, Traits)) or _is_method(self, value):
            return value
        what = f"{type(self).__name__.removeprefix('Still')}.{name}"
        if name.startswith("_host"):
            raise BakedIn(f"{what}, memory of the host, is read while a frame is recorded")
        if isinstance(value, (UnitKnobs, ImageKnobs)):
            return still(value)
        _check(value, what)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self, StreamState):
            raise BakedIn(f"StreamState.{name} becomes another object while a frame is recorded, and would never again")
        super().__setattr__(name, value)


def still(given: T) -> T:
    """`given` for a frame that is recorded: the same tensors, and BakedIn for a number, a text or a truth value."""
    kind: Any = type(given)
    if issubclass(kind, _Still):
        return given
    made: T = object.__new__(_still(kind))
    made.__dict__.update(vars(given))
    return made


@cache
def _still(kind: Any) -> Any:
    return type(f"Still{kind.__name__}", (_Still, kind), {})


def _is_method(owner: object, value: object) -> bool:
    """Whether it is one that reads through the same guard."""
    return getattr(value, "__self__", None) is owner


def _check(value: object, what: str) -> None:
    if isinstance(value, (bool, int, float, complex, str, bytes, np.ndarray, np.generic)):
        raise BakedIn(f"{what}, a {type(value).__name__}, is read while a frame is recorded, and would be baked in")
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for part in value:
            _check(part, what)
