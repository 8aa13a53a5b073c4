"""White Gaussian noise out of a counter: on the device, inside a graph, the same on every machine.

A generator keeps its state on the host's side of a graph; a counter in a tensor is advanced by the graph itself. Bits
are PCG4D's (Jarzynski and Olano 2020, Hash Functions for GPU Rendering); each 16 of them pick one of 65536 equally
likely values of the normal distribution (its quantiles, at most 4.3 sigma out), so that no machine's logarithm or
cosine has a say.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

LEVELS = 1 << 16
_MULTIPLY, _ADD = 1664525, 1013904223
_WEYL = (-1640531527, 1779033704)
"""The golden ratio's and the square root of two's fractions of 2^32, as int32. Multiples of these two numbers spread
over the circle more evenly than of any others, so that a rounding dithered with them never strays."""


@cache
def _quantiles(device: torch.device) -> Tensor:
    """fp32 [65536], ascending, scaled to a variance of exactly 1. Fetch it once before a capture: see `prime`."""
    with torch.inference_mode(False):
        p = (torch.arange(LEVELS // 2, dtype=torch.float64) + 0.5) / LEVELS
        lower = torch.special.ndtri(p)
        lower = lower / lower.square().mean().sqrt()
        return torch.cat((lower, -lower.flip(0))).to(torch.float32).to(device)


def prime(device: torch.device) -> None:
    """Put the table on the device, which a capture may not do. Classes that draw call it when they are made."""
    _quantiles(device)


def white(shape: tuple[int, ...], seed: Tensor, count: Tensor, stream: int = 0) -> Tensor:
    """fp32 of any shape, N(0, 1), independent for every seed, count (both 0-dim int32 on the device) and stream."""
    size = math.prod(shape)
    bits = _bits(-(-size // 8), seed, count, stream)
    halves = torch.cat((bits & 0xFFFF, (bits >> 16) & 0xFFFF)).flatten()
    return _quantiles(seed.device).index_select(0, halves)[:size].view(shape)


def _bits(size: int, seed: Tensor, count: Tensor, stream: int) -> Tensor:
    """int32 [4, size]: PCG4D of (index, count, seed, stream). int32 wraps around, as the hash wants it."""
    x = torch.arange(size, dtype=torch.int32, device=seed.device) * _MULTIPLY + _ADD
    y = count * _MULTIPLY + _ADD
    z = seed * _MULTIPLY + _ADD
    w = torch.full_like(seed, stream) * _MULTIPLY + _ADD
    x, y, z, w = (v ^ ((v >> 16) & 0xFFFF) for v in _mix(x, y, z, w))
    return torch.stack(_mix(x, y, z, w))


def _mix(x: Tensor, y: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = x + y * w
    y = y + z * x
    z = z + x * y
    return x, y, z, w + y * z


def dither(count: Tensor) -> tuple[Tensor, Tensor]:
    """The `count`-th point of a low-discrepancy sequence: x and y, 0-dim fp32 in [0, 1)."""
    x, y = ((((count * step) >> 8) & 0xFFFFFF).to(torch.float32) / (1 << 24) for step in _WEYL)
    return x, y


def turn(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """From a (w = 0) to b (w = 1) along the great circle between two independent noises: white, with a variance of
    exactly 1, all the way. What slerp tends to in many dimensions, where independent noises are at a right angle."""
    angle = w * (math.pi / 2)
    return torch.cos(angle) * a + torch.sin(angle) * b
