"""A painted picture moved on along the input's motion."""

from __future__ import annotations

import cv2
import numpy as np

from bridge.display.motion import Floats, grid
from bridge.display.track import Way
from bridge.frame import Pixels
from engines.fit import Box

STILL = 0.1
"""Pixels of the picture: less motion than this is none, and the picture stays as sharp as it is."""


def along(picture: Pixels, way: Way, amount: float = 1.0) -> Pixels:
    """`picture`, uint8 (h, w, c) of the way's layout, as it would be now: a new array, or itself where nothing moves or
    nothing is known. Less than `amount` 1, or a way that is doubted, is a mixture of both."""
    amount *= way.amount
    place = _place(way.vectors, way.layout.target)
    if amount <= 0 or place is None:
        return picture
    out = _moved(picture, place, way.layout.target)
    if amount < 1:
        out = np.asarray(cv2.addWeighted(out, amount, picture, 1 - amount, 0)).reshape(picture.shape)
    return out


def _place(vectors: Floats, box: Box) -> Floats | None:
    """Where in the box each of its pixels comes from, (h, w, 2); None where hardly any of them moves."""
    height, width = vectors.shape[:2]
    scaled = vectors * np.array([box.width / width, box.height / height], np.float32)
    if cv2.norm(scaled, cv2.NORM_INF) < STILL:
        return None
    place = cv2.resize(scaled, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.add(place, grid(box.height, box.width), place))


def _moved(picture: Pixels, place: Floats, box: Box) -> Pixels:
    """What comes in over the border is mirrored: a repeated edge would draw streaks."""
    rows, columns = slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
    part = cv2.remap(picture[rows, columns], place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    part = part.reshape(box.height, box.width, picture.shape[2])
    if part.shape == picture.shape:
        return np.asarray(part)
    out = picture.copy()
    out[rows, columns] = part
    return out
