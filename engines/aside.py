"""A stream beside the one that a frame is painted on: for what is needed later than the next thing is begun."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engines.machine import Event, Machine, Stream


class _Mine(threading.local):
    """One thread's: a frame may be recorded beside another that is painted."""

    stream: Stream | None = None
    done: Event | None = None


class Aside:
    """What runs inside goes on beside what follows, until `join`.

    Its results must be held until they have been used after `join`: memory that is let go of is given out again on the
    stream that it was made on, and the next work there begins after all that came before it here.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine, self._mine = machine, _Mine()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        mine = self._mine
        stream = mine.stream = mine.stream or self._machine.stream(first=True)
        stream.follow(self._machine.here().mark())
        with self._machine.on(stream):
            yield
            mine.done = stream.mark()

    def join(self) -> None:
        """What follows here may use what was made aside; nothing to do where nothing was."""
        if self._mine.done is not None:
            self._machine.here().follow(self._mine.done)
            self._mine.done = None

    def drop(self) -> None:
        """What was begun is worth nothing: a recording of it failed."""
        self._mine.done = None
