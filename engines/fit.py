"""How a picture of one shape sits in another: plain integers, no pixels."""

from __future__ import annotations

from typing import Literal, NamedTuple

Fit = Literal["crop", "letterbox", "stretch"]


class Box(NamedTuple):
    """A rectangle in pixels, from the top left."""

    y: int
    x: int
    height: int
    width: int


def source_box(height: int, width: int, to_height: int, to_width: int, fit: Fit) -> Box:
    """The part of a (height, width) picture that is shown: for `crop` the largest centred one of the target's shape."""
    if fit != "crop":
        return Box(0, 0, height, width)
    scale = min(height / to_height, width / to_width)
    return _centred(height, width, to_height * scale, to_width * scale)


def target_box(height: int, width: int, to_height: int, to_width: int, fit: Fit) -> Box:
    """Where it is shown in the (to_height, to_width) target: for `letterbox` the largest centred one of its shape."""
    if fit != "letterbox":
        return Box(0, 0, to_height, to_width)
    scale = min(to_height / height, to_width / width)
    return _centred(to_height, to_width, height * scale, width * scale)


def _centred(height: int, width: int, inner_height: float, inner_width: float) -> Box:
    h, w = min(height, max(1, round(inner_height))), min(width, max(1, round(inner_width)))
    return Box((height - h) // 2, (width - w) // 2, h, w)
