"""Rows of the parameter table moved at random, whichever there are."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from bridge.store import ParamStore
from pipelines.params import ParamSpec

RATE = 200.0
"""Changes a second."""
RAMP_S = 0.05


class Hammer:
    """While it is entered, one row after the other is moved: each once, and then whichever comes."""

    def __init__(
        self, store: ParamStore, rows: Sequence[ParamSpec], draw: Callable[[random.Random, ParamSpec], object]
    ) -> None:
        self._store, self._rows, self._draw, self._dice = store, rows, draw, random.Random(4)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.moves = 0

    def __enter__(self) -> Hammer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def all_moved(self) -> bool:
        return self.moves >= len(self._rows)

    def _run(self) -> None:
        began = time.perf_counter()
        while not self._stop.is_set():
            row = self._dice.choice(self._rows) if self.all_moved else self._rows[self.moves]
            slow = row.ramps and self._dice.random() < 0.3
            self._store.set(row.name, self._draw(self._dice, row), over_s=RAMP_S if slow else None)
            self.moves += 1
            self._stop.wait(max(0.0, began + self.moves / RATE - time.perf_counter()))
