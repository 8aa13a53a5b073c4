"""A one-place mailbox: putting never blocks, the newest wins, what it overwrote is counted."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Hands the newest item from one thread to another. No queue, so no backlog."""

    def __init__(self) -> None:
        self._ready = threading.Condition(threading.Lock())
        self._item: T | None = None
        self._closed = False
        self.put_count = 0
        self.dropped = 0

    def put(self, item: T) -> None:
        with self._ready:
            if self._item is not None:
                self.dropped += 1
            self._item = item
            self.put_count += 1
            self._ready.notify()

    def take(self, timeout: float) -> T | None:
        """The newest item, waiting up to `timeout` seconds for one; None when none came or it is closed."""
        with self._ready:
            if self._item is None and not self._closed:
                self._ready.wait(timeout)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Wake whoever waits; later takes return at once."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed
