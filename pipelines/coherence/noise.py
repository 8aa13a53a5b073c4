"""Noise that moves with the picture, and noise that travels.

Fixed noise stands still while the picture moves under it, so that the texture it makes slides over things ("shower
door"); noise of its own for each frame boils. Noise carried along by the input's motion makes texture that sticks to
things, as long as it stays what the network was trained on: white and Gaussian. Interpolated noise is neither.

Carried here as in How I Warped Your Noise (Chang et al. 2024), where a latent's pixel is the sum of a finer white noise
below it, and Go-with-the-Flow (Burgert et al. 2025), where grains that a zoom pulls apart are made independent again,
but at fixed cost: every fine cell takes one grain, by backward flow. If the flow knows nothing of the noise, the result
is exactly white, after any number of frames: not on average, not nearly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.coherence.gaussian import dither, prime, turn, white
from pipelines.preprocess.warp import fit_flow

STILL = 0.02
"""Of a grain's cell: less movement than this in a frame is an estimate's error, and would wear the noise out."""


def refine(noise: Tensor, fresh: Tensor, cells: int) -> Tensor:
    """White noise [..., h, w] and fresh noise [..., h * cells, w * cells] to the latter's size, white, such that
    `coarsen` gives `noise` back."""
    surplus = fresh - _spread(F.avg_pool2d(fresh, cells), cells)
    return _spread(noise / cells, cells) + surplus


def coarsen(grains: Tensor, cells: int) -> Tensor:
    """The sum of every cells x cells grains, scaled to a variance of 1: [..., h, w]."""
    return F.avg_pool2d(grains, cells) * cells


def _spread(x: Tensor, cells: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(cells), mode="nearest")


def carry(grains: Tensor, flow: Tensor, fresh: Tensor, count: Tensor) -> Tensor:
    """Grains [K, C, h, w], moved by backward flow [1, 2, H, W] px of any size; white if they and `fresh` are.

    Positions are rounded to whole cells with one low-discrepancy dither, the `count`-th, for all: a slow pan moves all
    cells in the same frame, so that nothing collides, and its rounding never adds up. Where n cells took the same grain
    g they share it: g / sqrt(n) each, plus fresh noise whose sum over them is 0, which is n independent grains. Cells
    whose content was not in the picture get fresh noise. Without motion the grains come back bit-equal.
    """
    height, width = grains.shape[-2:]
    x, y = _sources(flow, height, width, count)
    inside = ((x >= 0) & (x < width) & (y >= 0) & (y < height)).flatten()
    source = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten()  # [h w]

    fresh = fresh.view(-1, height * width)
    takes = inside.to(grains.dtype)
    takers = torch.zeros_like(takes).index_add_(0, source, takes).clamp_(min=1.0)
    surplus = torch.zeros_like(fresh).index_add_(1, source, fresh * takes) / takers
    share = (grains.view(fresh.shape) * takers.rsqrt()).index_select(1, source)
    own = fresh - surplus.index_select(1, source)  # 0, to the bit, for a grain that has one taker
    return torch.where(inside, share + own, fresh).view(grains.shape)


def _sources(flow: Tensor, height: int, width: int, count: Tensor) -> tuple[Tensor, Tensor]:
    """Which cell each cell takes its grain from: x and y, int64 [h, w], possibly outside."""
    moved = fit_flow(flow, (height, width))[0]
    moved = torch.where(moved.square().sum(0) < STILL * STILL, 0.0, moved)
    by_x, by_y = dither(count)
    columns = torch.arange(width, device=flow.device)
    rows = torch.arange(height, device=flow.device)[:, None]
    # Floored before the position is added: fp32 would round 1023 + 0.99999994 up to the next cell.
    dx, dy = (torch.floor(d + u).to(torch.int64) for d, u in ((moved[0], by_x), (moved[1], by_y)))
    return columns + dx, rows + dy


class MovingNoise:
    """Noise that the picture carries along; a stream's past, written in place. [K, C, h, w] for K draws."""

    def __init__(self, shape: tuple[int, int, int, int], device: torch.device, cells: int = 4) -> None:
        """`cells`: grains a side of a latent's pixel. Motion is followed to a fraction of a grain on average, and
        shows in steps of one: 4 are enough for latents of four channels, 2 for many."""
        prime(device)
        self.cells = cells
        self.grains = torch.zeros(*shape[:2], shape[2] * cells, shape[3] * cells, device=device)
        self.seed = torch.zeros((), dtype=torch.int32, device=device)
        self.count = torch.zeros((), dtype=torch.int32, device=device)
        """Frames since `begin`."""

    def begin(self, noise: Tensor, seed: int) -> None:
        """From the host, between frames: be `noise`, the first of the K or all of them, and draw what is new from
        `seed`. A seed or size that changes calls it; a cut need not."""
        self.seed.fill_(seed)
        self.count.zero_()
        grains = self.grains[: len(noise)]
        fresh = white(tuple(grains.shape), self.seed, self.count)
        grains.copy_(refine(noise, fresh, self.cells))

    def __call__(self, flow: Tensor, draws: int | None = None) -> Tensor:
        """This frame's noise, for backward flow [1, 2, H, W] px from the previous input to this one; the first `draws`
        of the K, if not all are needed."""
        self.count.add_(1)
        grains = self.grains[:draws]
        fresh = white(tuple(grains.shape), self.seed, self.count)
        grains.copy_(carry(grains, flow, fresh, self.count))
        return coarsen(grains, self.cells)


class TravellingNoise:
    """An endless walk over the sphere of noises, from one random noise to the next; `speed` legs a frame.

    At speed 0 it is fixed noise; at 1 each frame has noise of its own.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        prime(device)
        self.shape = shape
        self.seed = torch.zeros((), dtype=torch.int32, device=device)
        self.leg = torch.zeros((), dtype=torch.int32, device=device)
        self.way = torch.zeros((), device=device)
        """How far along the leg, in [0, 1). Apart from `leg`, so that it stays fine after weeks."""

    def begin(self, seed: int) -> None:
        """From the host, between frames: start again."""
        self.seed.fill_(seed)
        self.leg.zero_()
        self.way.zero_()

    def __call__(self, speed: Tensor, draws: int = 1) -> tuple[Tensor, ...]:
        """This frame's noises, `draws` independent ones, each fp32 `shape`; then `speed`, 0-dim, 0..1, further on."""
        noise = tuple(self._noise(draw) for draw in range(draws))
        self.way.add_(speed)
        whole = torch.floor(self.way)
        self.leg.add_(whole.to(torch.int32))
        self.way.sub_(whole)
        return noise

    def _noise(self, draw: int) -> Tensor:
        begin, end = (white(self.shape, self.seed, leg, draw) for leg in (self.leg, self.leg + 1))
        return turn(begin, end, self.way)
