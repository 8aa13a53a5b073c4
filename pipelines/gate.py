"""How alike two pictures look: whether an engine or a precision may be used in another's place (pipelines.ladder)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = 3


def likeness(one: Tensor, two: Tensor) -> float:
    """SSIM (Wang et al. 2004), gaussian window of 11, sigma 1.5, mean over the channels. [1, 3, H, W] in [-1, 1]."""
    a, b = one.float() / 2 + 0.5, two.float() / 2 + 0.5
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    both = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(ssim.mean())


def distance(one: Tensor, two: Tensor) -> float:
    """How differently edges stand in them: the deviation of gradient magnitudes' similarity (Xue et al. 2014), mean
    over three scales, 0 for the same picture, about 0.3 for one that has nothing to do with the other. No network."""
    a, b = (_luma(picture.float() / 2 + 0.5) for picture in (one, two))
    found = []
    for _ in range(SCALES):
        found.append(_gmsd(a, b))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return float(torch.stack(found).mean())


def _gmsd(a: Tensor, b: Tensor, c: float = 0.0026) -> Tensor:
    one, two = _slope(a), _slope(b)
    return ((2 * one * two + c) / (one * one + two * two + c)).std()


def _slope(x: Tensor) -> Tensor:
    """Prewitt's gradient, its magnitude."""
    kernel = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=x.device)[None, None] / 3
    return torch.hypot(F.conv2d(x, kernel), F.conv2d(x, kernel.mT))


def _luma(x: Tensor) -> Tensor:
    return (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def _blur(x: Tensor) -> Tensor:
    at = torch.arange(-5.0, 6.0, device=x.device)
    line = torch.exp(-(at**2) / (2 * 1.5**2))
    line = (line / line.sum()).expand(3, 1, 1, 11)
    return F.conv2d(F.conv2d(x, line, groups=3), line.mT, groups=3)
