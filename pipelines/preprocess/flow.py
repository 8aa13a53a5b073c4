"""Dense optical flow between two frames, on the device, with a fixed number of operations.

A coarse-to-fine combination of local and global methods (Bruhn, Weickert & Schnoerr 2005): the normal equations of
Lucas & Kanade (1981) over a small window, with a smoothness term as Horn & Schunck's (1981) where the window says
nothing, and a robust data term by reweighting (Black & Anandan 1996), so that what comes into view does not drag its
surround along. The picture is reduced to `SIDE` pixels and the unknowns lie on every second of those; no step has a
length that depends on data.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.preprocess.filters import binomial, halve, luma
from pipelines.preprocess.warp import inside, warp

SIDE = 128
"""The longer side of the picture that flow is estimated on."""
ROUNDS = (2, 2, 3, 3)
"""Linearisations at each level of the pyramid, finest first."""
SWEEPS = (2, 2, 3, 3)
"""Jacobi iterations of the smoothness term in each round."""
SMOOTH = 0.02
"""Weight of the smoothness term against the data term around, and a twentieth of that over all the picture."""
REACH = 3
"""Sigma, in grid points, of the neighbourhood that the smoothness term compares a vector with."""
NOISE = 0.01
"""Differences in luma count squared below this, and less and less above."""


@torch.inference_mode()
def flow(previous: Tensor, current: Tensor) -> Tensor:
    """Backward flow between two [1, 3, H, W] in 0..1: fp32 [1, 2, H, W], x then y, in pixels.

    What is at p in `current` was at p + flow[p] in `previous`; so `warp(previous, flow)` looks like `current`.
    """
    height, width = current.shape[2:]
    pair = reduced(luma(torch.cat([previous, current]).float()))
    levels = [pair]
    for _ in ROUNDS[1:]:
        if min(levels[-1].shape[2:]) < 16:
            break
        levels.append(halve(levels[-1]))
    found: Tensor | None = None
    for level in reversed(range(len(levels))):
        found = _refine(levels[level], found, ROUNDS[level], SWEEPS[level])
    assert found is not None
    return resized(found, pair.shape[2:], (height, width))


def reduced(x: Tensor) -> Tensor:
    """[2, 1, H, W] brought to about SIDE by a whole factor; never enlarged."""
    factor = max(1, round(max(x.shape[2:]) / SIDE))
    return F.avg_pool2d(x, factor) if factor > 1 else x


def resized(u: Tensor, old: torch.Size, new: tuple[int, ...]) -> Tensor:
    """Flow brought to another size, its vectors with it; `old` is the size of the picture in whose pixels it is."""
    u = F.interpolate(u, new, mode="bilinear")
    return torch.cat([u[:, :1] * (new[1] / old[1]), u[:, 1:] * (new[0] / old[0])], 1)


def _refine(pair: Tensor, u: Tensor | None, rounds: int, sweeps: int) -> Tensor:
    """Flow in this level's pixels on a grid of half its size, from that of the level above."""
    pair = _soft(pair)
    before, now = pair[:1], pair[1:]
    size = now.shape[2:]
    grid = (size[0] // 2, size[1] // 2)
    u = pair.new_zeros(1, 2, *grid) if u is None else F.interpolate(u, grid, mode="bilinear") * 2
    gx, gy = _slopes(now)
    for _ in range(rounds):
        u = _round(before, now, gx, gy, u, sweeps)
    return u


def _round(before: Tensor, now: Tensor, gx: Tensor, gy: Tensor, u: Tensor, sweeps: int) -> Tensor:
    """One linearisation about `u`, solved for the whole flow and not for its change, so that a window's equations agree
    about one motion even where their starting points differ."""
    full = F.interpolate(u, now.shape[2:], mode="bilinear")
    change = warp(before, full) - now
    weight = (change.square() + NOISE * NOISE).rsqrt() * inside(full)
    wx, wy = gx * weight, gy * weight
    known = gx * full[:, :1] + gy * full[:, 1:] - change
    a, b, c, x, y = binomial(halve(torch.cat([wx * gx, wx * gy, wy * gy, wx * known, wy * known], 1))).chunk(5, 1)
    trace = a + c  # what stands still has much larger weights than what moves, so that a mean alone would drown that
    smooth = (binomial(trace, 2) + 0.05 * trace.mean()) * SMOOTH + 1e-9
    a, c = a + smooth, c + smooth
    scale = 1 / (a * c - b * b)
    inverse = torch.cat([c, a], 1) * scale
    cross = b * scale
    data = torch.cat([x, y], 1)
    for _ in range(sweeps):
        wanted = torch.addcmul(data, smooth, binomial(u, REACH))
        u = torch.addcmul(inverse * wanted, cross, wanted.flip(1), value=-1)
    return u


def _soft(x: Tensor) -> Tensor:
    """A 3x3 binomial blur, which makes slopes hold for about a pixel."""
    p = F.pad(x, (1, 1, 1, 1), "replicate")
    p = (p[..., :-2] + p[..., 2:]).add_(p[..., 1:-1], alpha=2)
    return (p[:, :, :-2] + p[:, :, 2:]).add_(p[:, :, 1:-1], alpha=2).mul_(1 / 16)


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences."""
    p = F.pad(x, (1, 1, 1, 1), "replicate")
    return (p[:, :, 1:-1, 2:] - p[:, :, 1:-1, :-2]) * 0.5, (p[:, :, 2:, 1:-1] - p[:, :, :-2, 1:-1]) * 0.5
