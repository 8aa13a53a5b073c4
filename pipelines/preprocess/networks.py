"""What becomes of a network's answer, [1, 1, H, W] in 0..1. Each takes (answer, low, high)."""

from __future__ import annotations

from torch import Tensor

from pipelines.preprocess import normal
from pipelines.preprocess.filters import binomial, grey


def as_it_is(answer: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """In three equal channels."""
    return grey(answer)


def normals(answer: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Inverse depth to surface normals."""
    return normal.normals(answer, low, high)


def scribble(answer: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Edges above `low`, in 1/255, as strokes of one strength with round corners."""
    strokes = binomial(binomial((answer * 255 > low).float()))
    return grey((strokes * 255 > 127).float())
