"""In which blocks of the picture the input moves: `Refresh`'s rule on the host, from pixels before they are uploaded.

A little more alert than that, since it decides where `Refresh` may look at all: levels are rounded in its favour.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.fit import Box, Fit, source_box, target_box
from pipelines.coherence.refresh import BLOCK, CELL, QUIET

Pixels = NDArray[np.uint8]
ROUNDING = 0.5
"""Levels that a cell's mean may lose."""


class Fitted(NamedTuple):
    """How the input sits in the picture."""

    size: tuple[int, int]
    """The picture's height, width."""
    fit: Fit


class HostBlocks:
    """A stream's past. Looks at the input as it is fitted, whatever its size, so that a large one costs little more."""

    def __init__(self) -> None:
        self._seen: Pixels | None = None
        """The fitted input that each place on show was painted from."""
        self._now: Pixels = np.empty(0, np.uint8)
        self._last: tuple[object, ...] = ()
        self._moving: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self._target = Box(0, 0, 0, 0)

    def __call__(self, pixels: Pixels, fitted: Fitted, threshold: float) -> NDArray[np.bool_] | None:
        """Which blocks of the picture move, and those around them, bool (rows, columns), since uint8 (h, w, 1 | 3 | 4)
        were taken. threshold: levels. None where nothing comparable was."""
        height, width = pixels.shape[:2]
        source, self._target = (box(height, width, *fitted.size, fitted.fit) for box in (source_box, target_box))
        there = pixels[source.y : source.y + source.height, source.x : source.x + source.width]
        size = self._target.width, self._target.height
        same = (source.width, source.height) == size
        self._now = there if same else cv2.resize(there, size, interpolation=cv2.INTER_LINEAR).reshape(*size[::-1], -1)
        last, self._last = self._last, (pixels.shape, fitted)
        if self._seen is None or self._last != last:
            self._seen, self._moving = None, np.zeros([side // BLOCK for side in fitted.size], np.bool_)
            return None
        change = self._change(self._seen, fitted) + ROUNDING
        self._moving = change > threshold * np.where(self._moving, QUIET, 1.0)
        around: NDArray[np.bool_] = cv2.dilate(self._moving.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return around

    def _change(self, seen: Pixels, fitted: Fitted) -> NDArray[np.float32]:
        """Of each block: the mean absolute difference of that of its cells which changed most, in levels."""
        target, each = self._target, BLOCK // CELL
        difference = cv2.absdiff(self._now, seen).reshape(self._now.shape)
        top, left = target.y // CELL, target.x // CELL
        rows, columns = max(1, round(target.height / CELL)), max(1, round(target.width / CELL))
        small = cv2.resize(difference, (columns, rows), interpolation=cv2.INTER_AREA).reshape(rows, columns, -1)
        cells = np.zeros((fitted.size[0] // CELL, fitted.size[1] // CELL), np.float32)
        room = cells[top : top + rows, left : left + columns]
        room[:] = small[: room.shape[0], : room.shape[1], :3].mean(axis=2, dtype=np.float32)
        found: NDArray[np.float32] = cells.reshape(len(cells) // each, each, -1, each).max(axis=(1, 3))
        return found

    def take(self, part: Box | None = None) -> None:
        """The picture is painted from what was looked at last; of it, where there is one, that part."""
        if self._seen is None or part is None:
            self._seen = self._now.copy()
            return
        y, x = part.y - self._target.y, part.x - self._target.x
        rows, columns = slice(max(0, y), max(0, y + part.height)), slice(max(0, x), max(0, x + part.width))
        self._seen[rows, columns] = self._now[rows, columns]

    def forget(self) -> None:
        """Nothing is known of what is on show."""
        self._seen = None
