"""What the preprocessors are made of. fp32 [1, C, H, W] throughout; nothing here makes a tensor from a Python list,
which would be a copy from the host inside a captured frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def luma(image: Tensor) -> Tensor:
    """ITU-R BT.601 luma: [B, 3, H, W] to [B, 1, H, W]."""
    red, green, blue = image.chunk(3, 1)
    return (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def grey(x: Tensor) -> Tensor:
    """[1, 1, H, W] to three equal channels."""
    return x.repeat(1, 3, 1, 1)


def sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """d/dx and d/dy by Sobel's 3x3 masks, not normalised: a ramp of 1 a pixel gives 8. Borders are replicated."""
    p = F.pad(x, (1, 1, 1, 1), "replicate")
    down = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
    across = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
    return down[..., 2:] - down[..., :-2], across[:, :, 2:] - across[:, :, :-2]


def binomial(x: Tensor, step: int = 1) -> Tensor:
    """A 5x5 binomial blur, whose sigma is `step` pixels, with its taps that far apart: above 1 for smooth pictures, as
    in the algorithme a trous (Burt & Adelson 1983; Holschneider et al. 1989). Borders are replicated."""
    s = step
    p = F.pad(x, (2 * s,) * 4, "replicate")
    n = p.shape[3] - 4 * s
    p = (
        (p[..., :n] + p[..., 4 * s :])
        .add_(p[..., s : n + s] + p[..., 3 * s : n + 3 * s], alpha=4)
        .add_(p[..., 2 * s : n + 2 * s], alpha=6)
    )
    n = p.shape[2] - 4 * s
    p = (
        (p[:, :, :n] + p[:, :, 4 * s :])
        .add_(p[:, :, s : n + s] + p[:, :, 3 * s : n + 3 * s], alpha=4)
        .add_(p[:, :, 2 * s : n + 2 * s], alpha=6)
    )
    return p.mul_(1 / 256)


def halve(x: Tensor) -> Tensor:
    """Means of 2x2 pixels; an odd last row or column is left out."""
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    x = x[:, :, 0:h:2, :w] + x[:, :, 1:h:2, :w]
    return (x[..., ::2] + x[..., 1::2]).mul_(0.25)


def gaussian(x: Tensor, sigma: Tensor | float) -> Tensor:
    """A Gaussian blur, mirrored at the borders as cv2's. Each axis is a matrix product, so that sigma may be a live
    number on the device and the work is the same for every one."""
    height, width = x.shape[2:]
    rows = _gaussian_matrix(height, sigma, x.device)
    columns = rows if width == height else _gaussian_matrix(width, sigma, x.device)
    return rows @ (x @ columns.T)


def _gaussian_matrix(n: int, sigma: Tensor | float, device: torch.device) -> Tensor:
    """[n, n]: row i holds the weights of pixel i; pixels beyond a border are the mirrored ones within."""
    at = torch.arange(2 * n - 1, dtype=torch.float32, device=device)
    scale = -0.5 / (sigma * sigma)
    weights = _bell(at - (n - 1), scale).unfold(0, n, 1).flip(0)
    weights[:, 1:] += _bell(at, scale).unfold(0, n, 1)[:, 1:]
    weights[:, :-1] += _bell(at - 2 * (n - 1), scale).unfold(0, n, 1)[:, :-1]
    return weights / weights.sum(1, keepdim=True)


def _bell(distance: Tensor, scale: Tensor | float) -> Tensor:
    """exp(scale distance²), and 0 beyond 4 sigma: what is so small that fp32 has no full precision for it would slow
    a processor's matrix product down 50-fold."""
    return F.threshold((distance.square() * scale).exp(), 3.3e-4, 0.0)


def cells(x: Tensor, side: Tensor, smooth: bool) -> Tensor:
    """Means over square cells of `side` pixels (a scalar, need not be whole), back at full size: as flat squares, or
    with bilinear transitions. The last cells are what is left over."""
    return _cells(_cells(x, 3, side, smooth), 2, side, smooth)


def _cells(x: Tensor, dim: int, side: Tensor, smooth: bool) -> Tensor:
    """Along one axis, by differences of its running sum (summed-area table, Crow 1984)."""
    n = x.shape[dim]
    pad = (1, 0) if dim == 3 else (0, 0, 1, 0)
    total = F.pad(x.cumsum(dim), pad)
    count = torch.arange(n + 1, dtype=torch.float32, device=x.device)
    edge = (count * side).clamp(max=n)
    below = edge.floor()
    until = _take(total, dim, below.int())
    beyond = _take(total, dim, (below + 1).clamp(max=n).int())
    shape = (-1,) if dim == 3 else (-1, 1)
    until = torch.lerp(until, beyond, (edge - below).view(shape))
    width = edge.diff().clamp(min=1e-3).view(shape)
    mean = until.diff(dim=dim) / width
    last = (n / side).ceil() - 1
    at = (count[:-1] + 0.5) / side
    if not smooth:
        return _take(mean, dim, torch.minimum(at.floor(), last).int())
    at = (at - 0.5).clamp(min=0)
    first = torch.minimum(at.floor(), last)
    second = torch.minimum(first + 1, last)
    left, right = _take(mean, dim, first.int()), _take(mean, dim, second.int())
    return torch.lerp(left, right, (at - first).clamp(max=1).view(shape))


def _take(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """index_select; on a processor, advanced indexing is four times as fast along the last axis, but not elsewhere."""
    return x[..., index] if dim == 3 else x.index_select(dim, index)
