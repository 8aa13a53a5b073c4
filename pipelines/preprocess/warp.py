"""Pictures and latents moved by backward flow, and judging where that can be believed.

Backward flow, [1, 2, h, w] in its own pixels, x before y: what is at (x, y) now was at (x + flow_x, y + flow_y) a frame
ago. Everything here is capturable.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.preprocess.filters import luma

Kernel = Literal["bilinear", "bicubic"]


def warp(image: Tensor, flow: Tensor, kernel: Kernel = "bilinear") -> Tensor:
    """The previous [1, C, h, w], moved to where its parts are now; the flow may be of any size.

    Beyond the border the edge is repeated. Bicubic costs four times as much and keeps fine detail through many frames
    of feedback; it may overshoot the input's range.
    """
    height, width = image.shape[-2:]
    moved = fit_flow(flow, (height, width))
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + moved[:, 0]  # [1, h, w]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + moved[:, 1]
    grid = torch.stack(((2.0 * x + 1.0) / width - 1.0, (2.0 * y + 1.0) / height - 1.0), dim=-1)
    return F.grid_sample(image, grid.to(image.dtype), kernel, "border", align_corners=False)


def fit_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow at another resolution, in that resolution's pixels: [1, 2, *size]. Shrinking takes the mean."""
    height, width = flow.shape[-2:]
    if (height, width) == size:
        return flow
    fitted = F.interpolate(flow, size, mode="area" if size[0] <= height else "bilinear")
    return torch.cat((fitted[:, :1] * (size[1] / width), fitted[:, 1:] * (size[0] / height)), dim=1)


def inside(flow: Tensor) -> Tensor:
    """[1, 1, h, w], 1 where what is here now was in the picture a frame ago, else 0."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, :1]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1:]
    return ((x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)).to(flow.dtype)


def confidence(previous: Tensor, current: Tensor, flow: Tensor, tolerance: float = 0.06) -> Tensor:
    """How far the flow explains the frame: fp32 [1, 1, H, W], 1 where `previous` warped equals `current` and its origin
    lies within the picture, near 0 from a difference of two `tolerance` in luma on. For two [1, 3, H, W] in 0..1."""
    seen = luma(warp(previous.float(), flow)) - luma(current.float())
    seen = F.avg_pool2d(seen.abs(), 3, 1, 1, count_include_pad=False)
    return torch.exp(-(seen / tolerance).square()) * inside(flow)


def consistency(backward: Tensor, forward: Tensor) -> Tensor:
    """1 where going back and forth along both flows ends where it began, 0 where something covered or uncovered it:
    fp32 [1, 1, H, W].

    The forward-backward check of Sundaram, Brox & Keutzer (2010), with their constants: the gap, squared, may be 1 % of
    both flows' squares and half a pixel. `forward` is `flow(current, previous)`.
    """
    there = warp(forward, backward)
    gap = (backward + there).square().sum(1, keepdim=True)
    room = 0.01 * (backward.square() + there.square()).sum(1, keepdim=True) + 0.5
    return (gap <= room).float() * inside(backward)
