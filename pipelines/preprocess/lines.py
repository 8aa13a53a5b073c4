"""Hints that are drawings: white on black. Each takes (image, low, high) as Preprocessor.run does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.preprocess.filters import binomial, gaussian, grey, halve, sobel

_SCALES = 3


def softedge(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Soft contours. low: how much a textured surround takes away; high: gain.

    Gradients at three scales (each the largest of the colour channels, Di Zenzo 1986) are summed, less their mean over
    the surround, so that an edge among many edges counts for little: isotropic surround inhibition (Grigorescu, Petkov
    & Westenberg 2003). HED's side outputs are multi-scale in the same way.
    """
    size = image.shape[2:]
    layer, total = image, None
    for scale in range(_SCALES):
        layer = binomial(layer)
        dx, dy = sobel(layer)
        strength = (dx.square() + dy.square()).amax(1, keepdim=True).sqrt().mul_(0.25)
        full = strength if scale == 0 else F.interpolate(strength, size, mode="bilinear")
        total = full if total is None else total + full
        if min(layer.shape[2:]) >= 4:
            layer = halve(layer)
    assert total is not None
    total = total / _SCALES
    surround = F.interpolate(binomial(binomial(halve(halve(halve(total))))), size, mode="bilinear")
    return grey(torch.tanh(high * F.relu(total - low * surround)))


def scribble(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """White where the picture is darker than its surround by more than `low` / 2, in 1/255, in every channel.

    The thresholded difference of Gaussians of XDoG (Winnemoeller, Kyprianidis & Olsen 2012) with sigmas 0.5 and 5.
    """
    darker = (gaussian(image, 5.0) - gaussian(image, 0.5)).amin(1, keepdim=True)
    return grey((darker * (2 * 255) > low).float())


def lineart(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How much darker than a blur of sigma `low`, where the median of what exceeds `high` (in 1/255) is half white.

    The median is that of every fourth pixel each way; it is at least 16/255, so that noise stays dark.
    """
    darker = F.relu((gaussian(image, low.clamp(min=0.5)) - image).amin(1, keepdim=True))
    some = darker[..., ::4, ::4].flatten()
    counts = some * 255 > high
    middle = (counts.sum() - 1).clamp(min=0).div(2, rounding_mode="floor")
    median = torch.where(counts, some, 2.0).sort().values.index_select(0, middle[None])
    median = torch.where(counts.any(), median, 0.0).clamp(min=16 / 255)
    return grey((darker * (127 / 255) / median).clamp(max=1))
