"""What was done to a show, told to whoever wants to write it down."""

from __future__ import annotations

import threading
from collections.abc import Callable

Watcher = Callable[[str, str, object], None]
"""(kind, what, who asked): "look" and a name, "cue", "show", "saved", "deleted"; None: it came by itself."""


class News:
    """Thread-safe. Watchers are called on a frame's way too, so they must return at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[Watcher, ...] = ()

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Call back from now on; returns the way to end it."""
        with self._lock:
            self._watchers = (*self._watchers, callback)

        def end() -> None:
            with self._lock:
                self._watchers = tuple(other for other in self._watchers if other is not callback)

        return end

    def tell(self, kind: str, what: str, origin: object = None) -> None:
        for watcher in self._watchers:
            watcher(kind, what, origin)
