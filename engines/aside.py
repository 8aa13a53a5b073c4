"""A stream beside the one that a frame is painted on: for what is needed later than the next thing is begun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engines.machine import Event, Machine


class Aside:
    """What runs inside goes on beside what follows, until `join`.

    Its results must be held until they have been used after `join`: memory that is let go of is given out again on the
    stream that it was made on, and the next work there begins after all that came before it here.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine, self._stream = machine, machine.stream()
        self._done: Event | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._stream.follow(self._machine.here().mark())
        with self._machine.on(self._stream):
            yield
            self._done = self._stream.mark()

    def join(self) -> None:
        """What follows here may use what was made aside; nothing to do where nothing was."""
        if self._done is not None:
            self._machine.here().follow(self._done)
            self._done = None

    def drop(self) -> None:
        """What was begun is worth nothing: a recording of it failed."""
        self._done = None
