"""pipelines.preprocess.flow step for step, in numpy and OpenCV: what a processor computes it with.

Its pictures are so small that torch on a processor spends most of its time between the operations; here all of it
takes half as long. Arrays are fp32 (H, W, C). Read the other first: what is computed, and why, stands there.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.preprocess.flow import NOISE, REACH, ROUNDS, SMOOTH, SWEEPS

Array = NDArray[np.float32]

SOFT = np.array([0.25, 0.5, 0.25], np.float32)
SLOPE, ONE = np.array([-0.5, 0, 0.5], np.float32), np.ones(1, np.float32)
EDGE = cv2.BORDER_REPLICATE


def estimate(before: Array, now: Array) -> Array:
    """Backward flow (h/2, w/2, 2) between two small luma pictures (h, w), in their pixels.

    Of pictures that are not finite, or that a recording never filled, it says nothing, and without a warning, as torch.
    """
    with np.errstate(all="ignore"):
        return _estimate(before, now)


def _estimate(before: Array, now: Array) -> Array:
    levels = [(before, now)]
    for _ in ROUNDS[1:]:
        if min(levels[-1][0].shape) < 16:
            break
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    found: Array | None = None
    for level in reversed(range(len(levels))):
        found = _refine(*levels[level], found, ROUNDS[level], SWEEPS[level])
    assert found is not None
    return found


def _refine(before: Array, now: Array, u: Array | None, rounds: int, sweeps: int) -> Array:
    before, now = (_filtered(x, SOFT, SOFT) for x in (before, now))
    height, width = now.shape
    grid = (width // 2, height // 2)
    u = np.zeros((grid[1], grid[0], 2), np.float32) if u is None else cv2.resize(u, grid) * np.float32(2)
    gx, gy = _filtered(now, SLOPE, ONE), _filtered(now, ONE, SLOPE)
    looked = torch.from_numpy(before)[None, None]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    for _ in range(rounds):
        u = _round(looked, now, gx, gy, u, x, y, sweeps)
    return u


def _round(before: Tensor, now: Array, gx: Array, gy: Array, u: Array, x: Array, y: Array, sweeps: int) -> Array:
    height, width = now.shape
    full = cv2.resize(u, (width, height))
    at_x, at_y = full[..., 0] + x, full[..., 1] + y
    change = _moved(before, at_x, at_y) - now
    weight = 1 / np.sqrt(change * change + np.float32(NOISE * NOISE))
    weight *= (at_x > -0.5) & (at_x < width - 0.5) & (at_y > -0.5) & (at_y < height - 0.5)
    wx, wy = gx * weight, gy * weight
    known = gx * full[..., 0] + gy * full[..., 1] - change
    normal = cv2.merge([wx * gx, wx * gy, wy * gy, wx * known, wy * known])
    normal = _binomial(_halved(normal))
    a, b, c = normal[..., 0], normal[..., 1], normal[..., 2]
    trace = a + c
    smooth = (_binomial(trace, 2) + np.float32(0.05) * trace.mean()) * np.float32(SMOOTH) + np.float32(1e-9)
    a, c = a + smooth, c + smooth
    scale = 1 / (a * c - b * b)
    inverse, cross = cv2.merge([c * scale, a * scale]), (b * scale)[..., None]
    data, smooth = normal[..., 3:], smooth[..., None]
    for _ in range(sweeps):
        wanted = data + smooth * _binomial(u, REACH)
        u = inverse * wanted - cross * wanted[..., ::-1]
    return u


def _moved(before: Tensor, at_x: Array, at_y: Array) -> Array:
    """Bilinear, border repeated. By torch: OpenCV's remap knows 32 places between two pixels, which flow would show."""
    height, width = at_x.shape
    grid = cv2.merge([(2 * at_x + 1) / np.float32(width) - 1, (2 * at_y + 1) / np.float32(height) - 1])
    moved = F.grid_sample(before, torch.from_numpy(grid)[None], "bilinear", "border", align_corners=False)
    return np.asarray(moved[0, 0].numpy())


def _filtered(x: Array, across: Array, down: Array) -> Array:
    return np.asarray(cv2.sepFilter2D(x, cv2.CV_32F, across, down, borderType=EDGE), np.float32)


def _binomial(x: Array, step: int = 1) -> Array:
    taps = np.zeros(4 * step + 1, np.float32)
    taps[::step] = 0.0625, 0.25, 0.375, 0.25, 0.0625
    return _filtered(x, taps, taps)


def _halved(x: Array) -> Array:
    """Means of 2x2 pixels; an odd last row or column is left out."""
    height, width = x.shape[0] // 2, x.shape[1] // 2
    return np.asarray(cv2.resize(x[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))
