"""A large still picture, seen through a window that moves: motion that is known to the pixel."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from bridge.display.motion import Layout
from bridge.frame import Frame, Pixels, Stamps
from bridge.sources.scene import draw
from engines.fit import Fit


@lru_cache(maxsize=4)
def _still(seed: int) -> Pixels:
    return draw(3.0, 640, 480, seed)


def window(x: float, y: float, height: int, width: int, seed: int = 1) -> Pixels:
    """(height, width, 3): the window's left upper corner is at (x, y) of a scene of 640 x 480."""
    place = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    return np.asarray(cv2.warpAffine(_still(seed), place, (width, height), flags=cv2.INTER_LINEAR))


def painted(pixels: Pixels, size: tuple[int, int], fit: Fit) -> Pixels:
    """As a model would that returns the negative of what it sees: fitted by the worker's own code."""
    import torch

    from pipelines.prepare import prepare, to_bytes

    return 255 - to_bytes(prepare(torch.from_numpy(pixels), size, fit)).numpy()


def fed(pixels: Pixels, number: int, at_ns: int) -> Frame:
    return Frame(pixels, number, Stamps(at_ns, at_ns))


def laid(frame: Frame, size: tuple[int, int], fit: Fit = "crop") -> tuple[Frame, Layout]:
    return frame, Layout((frame.height, frame.width), size, fit)


def difference(a: Pixels, b: Pixels, margin: int = 0) -> float:
    """Mean, in levels, without the outer `margin` pixels."""
    part = slice(margin, -margin or None)
    return float(np.abs(a[part, part].astype(int) - b[part, part]).mean())
