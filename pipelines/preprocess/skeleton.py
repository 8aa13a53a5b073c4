"""People's joints drawn as ControlNet's OpenPose networks were taught to see them: coloured limbs and dots on black.

Eighteen joints in OpenPose's order, the neck between the shoulders. Joint n has the hue 20 n degrees, limb n the same
at six tenths of the brightness; limbs are ellipses, drawn before the joints.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
SURE = 0.3
"""A joint below this is not drawn, nor what hangs on it."""
_FROM_COCO = (0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""OpenPose's joints among COCO's; -1 is the neck."""
_NECK, _SHOULDERS = 1, (5, 6)
_LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
COLOURS = tuple(tuple(round(255 * part) for part in colorsys.hsv_to_rgb(n / 18, 1.0, 1.0)) for n in range(18))
"""RGB."""
_DIM = 0.6
_THIN = 128
"""Limbs are as many pixels wide to each side as this goes into the shorter side: 4 at 512."""


class Skeletons:
    """A pose network as a preprocessor's: [1, 3, H, W] in 0..1 to a drawing of the same form, on the host."""

    def __init__(self, joints: Callable[[Pixels], Floats]) -> None:
        """`joints`: RGB (h, w, 3) to (people, 17, 3), COCO's joints as x, y and how sure."""
        self._joints = joints

    def __call__(self, image: Tensor) -> Tensor:
        """The people in it."""
        pixels = (image[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        drawn = draw(openpose(self._joints(np.ascontiguousarray(pixels))), (pixels.shape[0], pixels.shape[1]))
        return torch.from_numpy(drawn).permute(2, 0, 1)[None].float() / 255


def openpose(people: Floats) -> Floats:
    """COCO's joints, (people, 17, 3), to OpenPose's, (people, 18, 3). The neck is as sure as the worse shoulder."""
    shoulders = people[:, _SHOULDERS, :]
    neck = np.concatenate((shoulders[:, :, :2].mean(1), shoulders[:, :, 2:].min(1)), 1)
    return np.concatenate((people, neck[:, None]), 1)[:, _FROM_COCO]


def draw(people: Floats, size: tuple[int, int]) -> Pixels:
    """(people, 18, 3) in pixels of a picture of (height, width), to RGB (height, width, 3)."""
    canvas = np.zeros((*size, 3), np.uint8)
    thick = max(1, round(min(size) / _THIN))
    for n, (a, b) in enumerate(_LIMBS):
        for person in people:
            if min(person[a, 2], person[b, 2]) >= SURE:
                _limb(canvas, person[a, :2], person[b, :2], thick, COLOURS[n])
    canvas = (canvas * _DIM).astype(np.uint8)
    for n, colour in enumerate(COLOURS):
        for person in people:
            if person[n, 2] >= SURE and np.isfinite(person[n, :2]).all():
                cv2.circle(canvas, (int(person[n, 0]), int(person[n, 1])), thick, colour, -1)
    return canvas


def _limb(canvas: Pixels, a: Floats, b: Floats, thick: int, colour: tuple[int, ...]) -> None:
    """An ellipse from joint to joint."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return
    middle, across = (a + b) / 2, a - b
    long, turn = math.hypot(*across) / 2, math.degrees(math.atan2(across[1], across[0]))
    outline = cv2.ellipse2Poly((int(middle[0]), int(middle[1])), (int(long), thick), int(turn), 0, 360, 1)
    cv2.fillConvexPoly(canvas, outline, colour)
