"""Output smoothing: an exponential mean over time that leaves alone what moves.

still = stillness(state.source, source)
shown = smooth(image, warp(state.shown, flow), params.smoothing, still)   # or state.shown, without flow
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.coherence.feedback import blend

STILL, MOVED = 3.0, 14.0
"""Levels of 255 by which an input's neighbourhood changes from frame to frame: a camera's grain, and motion."""
MOST = 0.98
"""A mean that keeps everything would never show anything new."""


def stillness(previous: Tensor, current: Tensor) -> Tensor:
    """Where the input, [1, 3, H, W] in [-1, 1], did not change: [1, 1, H, W] in 0..1.

    Judged in cells of 4 px and widened by one, so that the edge of what moves leaves no ghost.
    """
    change = (current - previous).abs().mean(dim=1, keepdim=True) * 127.5
    change = F.max_pool2d(F.avg_pool2d(change, 4, ceil_mode=True), 3, stride=1, padding=1)
    still = torch.clamp((MOVED - change) / (MOVED - STILL), 0.0, 1.0)
    return F.interpolate(still, (current.shape[-2], current.shape[-1]), mode="bilinear")


def smooth(image: Tensor, shown: Tensor, amount: Tensor, still: Tensor) -> Tensor:
    """[1, C, H, W]: `amount`, 0-dim, 0..1, of what was shown before, where it is still; the rest of `image`.

    At 0, and where it moves, image comes back bit-equal.
    """
    return blend(image, shown, (amount * still).clamp(max=MOST))


def keep(half_life: float, period: float) -> float:
    """The amount with which a difference halves in `half_life` seconds, at one frame per `period` seconds. On the host;
    so that 15 and 60 frames a second look alike."""
    return 0.0 if half_life <= 0.0 else math.exp2(-period / half_life)
