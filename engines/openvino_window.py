"""Windows of OpenVINO's networks: compiled for each size apart, beside the stream, once somebody asks for that size.

What was compiled once is read from the cache the next time. Until a size is there the stream paints whole pictures.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engines.errors import ModelError, first_line
from engines.window import Painters

NICE = 10
Size = tuple[int, int]


class Loaded(NamedTuple):
    """Of one size."""

    painters: Painters
    numbers: int
    """See engines.window.Window."""


class OpenvinoWindow:
    """Implements engines.window.Window. `painters` belongs to the frame's thread."""

    fixed = True

    def __init__(self, load: Callable[[Size], Loaded], whole: Size, grid: int, beside: bool = True) -> None:
        """`load`: compiles, or reads from the cache, what paints windows of a size, or whole pictures around them; it
        raises ModelError. `beside`: on a thread of its own."""
        self.grid, self.numbers = grid, 0
        self.present: Sequence[object] = ()
        self.wrong = ""
        self._load, self._whole, self._beside = load, whole, beside
        self._there: dict[Size, Painters | None] = {}
        """None for what can't be had."""
        self._thread: threading.Thread | None = None

    def painters(self, size: Size, /) -> Painters | None:
        """See engines.window.Window. One size at a time is made ready, and the whole picture's before all others."""
        if size not in self._there and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._make, args=(size,), name="ll-window", daemon=True)
            self._thread.start()
            if not self._beside:
                self._thread.join()
        return self._there.get(size) if self._there.get(self._whole) is not None else None

    def settle(self) -> None:
        """See engines.window.Window."""
        if self._thread is not None:
            self._thread.join()

    def _make(self, wanted: Size) -> None:
        if self._beside and sys.platform == "linux":  # elsewhere it would be the whole process's
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        for size in [size for size in dict.fromkeys((self._whole, wanted)) if size not in self._there]:
            try:
                loaded = self._load(size)
            except (ModelError, RuntimeError, OSError) as error:
                self.wrong = first_line(error)
                self._there[size] = None
                continue
            self.numbers = loaded.numbers
            self.present = (*self.present, *loaded.painters)
            self._there[size] = loaded.painters
