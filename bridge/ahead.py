"""What the next cue will want to be painted with, as far as it can be built."""

from __future__ import annotations

from pipelines.params import Params
from pipelines.spec import StreamSpec


class Ahead:
    """Written by the feeder, read by the supervisor's thread."""

    def __init__(self) -> None:
        self._next: tuple[StreamSpec, Params] | None = None
        self._impossible: tuple[StreamSpec, ...] = ()

    def put(self, spec: StreamSpec | None, params: Params) -> bool:
        """Whether this is another one than before."""
        before = self._next
        self._next = None if spec is None else (spec, params)
        return (before and before[0]) != spec

    def get(self) -> tuple[StreamSpec, Params] | None:
        ahead = self._next
        return None if ahead is None or ahead[0] in self._impossible else ahead

    def give_up(self, spec: StreamSpec) -> bool:
        """It can't be built. Whether that is news."""
        news = spec not in self._impossible
        self._impossible = (*self._impossible[-15:], spec) if news else self._impossible
        return news

    def forgive(self) -> None:
        self._impossible = ()
