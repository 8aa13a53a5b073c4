"""Hints that are the picture's own tones and colours. Each takes (image, low, high) as Preprocessor.run does."""

from __future__ import annotations

from torch import Tensor

from pipelines.preprocess.filters import cells, gaussian, grey, luma


def none(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The identity."""
    return image


def invert(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The negative."""
    return 1 - image


def luminance(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """BT.601 luma to the power of `low`."""
    return grey(luma(image).clamp_(0, 1).pow(low))


def threshold(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """White where all three channels are above `low`, in 1/255."""
    return grey((image.amin(1, keepdim=True) * 255 > low).float())


def blur(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Gaussian of sigma `low` pixels."""
    return gaussian(image, low.clamp(min=0.01)).clamp_(0, 1)


def tile(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Means over `low` pixels, interpolated."""
    return cells(image, low.clamp(min=1), smooth=True).clamp_(0, 1)


def colour(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Flat squares of `low` pixels."""
    return cells(image, low.clamp(min=1), smooth=False).clamp_(0, 1)
