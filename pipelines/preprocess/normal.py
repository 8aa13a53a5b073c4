"""Normal maps from heights."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.preprocess.filters import binomial, luma, sobel


def normal(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The picture's luma as a height map, smoothed a little: see `normals`."""
    return normals(binomial(luma(image)), low, high)


def normals(depth: Tensor, background: Tensor, strength: Tensor) -> Tensor:
    """Inverse depth or height, [1, 1, H, W] in 0..1 with near bright, to a normal map, [1, 3, H, W] in 0..1.

    The ScanNet colours that ControlNet's normal models were trained with: blue faces the viewer, red left, green up.
    Where depth is below `background` the surface faces the viewer; slopes are multiplied by `strength`.
    """
    kept = strength * (depth >= background)
    dx, dy = (slope * kept for slope in sobel(depth))
    length = torch.sqrt(dx.square() + dy.square() + 1)
    return (torch.cat([dx, dy, torch.ones_like(dx)], 1) / length + 1) * 0.5
