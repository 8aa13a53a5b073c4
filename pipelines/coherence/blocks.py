"""In which blocks of the picture the input moves: `Refresh`'s rule on the host, from pixels before they are uploaded.

A little more alert than that, since it decides where `Refresh` may look at all: levels are rounded in its favour.
"""

from __future__ import annotations

import math
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
    """A stream's past."""

    def __init__(self) -> None:
        self._seen: Pixels | None = None
        """The input that each place on show was painted from."""
        self._difference = np.empty(0, np.uint8)
        self._moving: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self._fitted: Fitted | None = None

    def __call__(self, pixels: Pixels, fitted: Fitted, threshold: float) -> NDArray[np.bool_] | None:
        """Which blocks of the picture move, and those around them, bool (rows, columns), since uint8 (h, w, 1 | 3 | 4)
        were taken. threshold: levels. None where nothing comparable was."""
        seen, blocks = self._seen, (fitted.size[0] // BLOCK, fitted.size[1] // BLOCK)
        if seen is None or seen.shape != pixels.shape or fitted != self._fitted:
            self._fitted, self._moving = fitted, np.zeros(blocks, np.bool_)
            return None
        change = self._change(pixels, seen, fitted) + ROUNDING
        self._moving = change > threshold * np.where(self._moving, QUIET, 1.0)
        around: NDArray[np.bool_] = cv2.dilate(self._moving.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return around

    def _change(self, pixels: Pixels, seen: Pixels, fitted: Fitted) -> NDArray[np.float32]:
        """Of each block: the mean absolute difference of that of its cells which changed most, in levels."""
        self._difference = cv2.absdiff(pixels, seen, self._difference if self._difference.size else None)
        source, target = _boxes(pixels, fitted)
        part = self._difference.reshape(pixels.shape)[
            source.y : source.y + source.height, source.x : source.x + source.width
        ]
        top, left = target.y // CELL, target.x // CELL
        rows, columns = max(1, round(target.height / CELL)), max(1, round(target.width / CELL))
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA).reshape(rows, columns, -1)
        cells = np.zeros((fitted.size[0] // CELL, fitted.size[1] // CELL), np.float32)
        room = cells[top : top + rows, left : left + columns]
        room[:] = small[: room.shape[0], : room.shape[1], :3].mean(axis=2, dtype=np.float32)
        each = BLOCK // CELL
        found: NDArray[np.float32] = cells.reshape(len(cells) // each, each, -1, each).max(axis=(1, 3))
        return found

    def take(self, pixels: Pixels, part: Box | None = None) -> None:
        """The picture is painted from `pixels`; of it, where there is one, that part."""
        if part is None or self._seen is None or self._fitted is None:
            if self._seen is None or self._seen.shape != pixels.shape:
                self._seen, self._difference = pixels.copy(), np.empty(0, np.uint8)
            else:
                np.copyto(self._seen, pixels)
            return
        source, target = _boxes(pixels, self._fitted)
        tall, wide = source.height / target.height, source.width / target.width
        y, x = source.y + (part.y - target.y) * tall, source.x + (part.x - target.x) * wide
        rows = slice(max(0, math.floor(y)), max(0, math.ceil(y + part.height * tall)))
        columns = slice(max(0, math.floor(x)), max(0, math.ceil(x + part.width * wide)))
        self._seen[rows, columns] = pixels[rows, columns]

    def forget(self) -> None:
        """Nothing is known of what is on show."""
        self._seen = None


def _boxes(pixels: Pixels, fitted: Fitted) -> tuple[Box, Box]:
    height, width = pixels.shape[:2]
    return source_box(height, width, *fitted.size, fitted.fit), target_box(height, width, *fitted.size, fitted.fit)
