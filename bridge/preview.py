"""Newest input and output pictures for whoever watches: the page, a still. Encodes nothing by itself."""

from __future__ import annotations

import threading

from bridge.frame import Frame


class PreviewHub:
    """Three shelves, `input`, `output` and `hint`, each with its newest frame. Viewers wait, and nobody for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: dict[str, Frame] = {}
        self._revision = 0

    def publish(self, shelf: str, frame: Frame) -> None:
        with self._changed:
            self._frames[shelf] = frame
            self._revision += 1
            self._changed.notify_all()

    def newest(self, shelf: str) -> Frame | None:
        with self._changed:
            return self._frames.get(shelf)

    def wait(self, seen: int, timeout: float) -> int:
        """Block until something newer than revision `seen` is there, or `timeout` seconds; returns the revision."""
        with self._changed:
            self._changed.wait_for(lambda: self._revision > seen, timeout)
            return self._revision
