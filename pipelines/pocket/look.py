"""What styles ask of a picture: blurs, tones, outlines, relief, colour ramps."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pocket import patterns

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]


def paint(x: Any) -> Picture:
    """As float32."""
    return np.asarray(x, np.float32)


def blur(x: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian, mirrored at the border."""
    return np.asarray(cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def step(x: Plane, edge: float, width: float) -> Plane:
    """0 below edge − width, 1 above edge + width, smooth between."""
    t = np.clip((x - edge + width) / (2 * width), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def ramp(x: Plane, *stops: str) -> Picture:
    """Colours `#rrggbb` spread evenly over 0..1, linear between."""
    table = np.array([[int(s[i : i + 2], 16) / 255 for i in (1, 3, 5)] for s in stops], np.float32)
    at = np.linspace(0, 1, len(stops), dtype=np.float32)
    return np.stack([np.interp(x, at, table[:, c]) for c in range(3)], -1).astype(np.float32)


def rgb(code: str) -> NDArray[np.float32]:
    """A colour `#rrggbb`, 0..1."""
    return np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)


class Look:
    """A picture with everything that several styles ask of it, computed once."""

    def __init__(self, picture: Picture) -> None:
        self.rgb = picture
        self.height, self.width = picture.shape[:2]

    @cached_property
    def gray(self) -> Plane:
        """Luma, lifted for dark pictures."""
        return np.asarray(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY), np.float32)

    @cached_property
    def tone(self) -> Plane:
        """Luma with its local contrast brought out, 0..1."""
        wide = blur(self.gray, 24)
        spread = np.sqrt(blur((self.gray - wide) ** 2, 24)) + 0.12
        local = 0.5 + 0.28 * (self.gray - wide) / spread
        return np.clip(0.5 * local + 0.5 * self.gray**0.8, 0, 1).astype(np.float32)

    @cached_property
    def soft(self) -> Picture:
        """Flat patches with their borders kept."""
        out = self.rgb
        for _ in range(2):
            out = cv2.bilateralFilter(out, 7, 0.18, 5)
        return np.asarray(out, np.float32)

    @cached_property
    def slopes(self) -> tuple[Plane, Plane]:
        """Gradient of the softened luma, x and y."""
        gray = blur(cv2.cvtColor(self.soft, cv2.COLOR_RGB2GRAY), 1.0)
        return cv2.Scharr(gray, cv2.CV_32F, 1, 0) / 16, cv2.Scharr(gray, cv2.CV_32F, 0, 1) / 16

    @cached_property
    def edge(self) -> Plane:
        """How much of an outline is here, 0..1, colour borders included, weak ones lifted by their surroundings."""
        smooth = cv2.GaussianBlur(self.soft, (0, 0), 1.1)
        gx, gy = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) / 16, cv2.Scharr(smooth, cv2.CV_32F, 0, 1) / 16
        size = np.sqrt((gx**2 + gy**2).max(2))
        return paint(np.clip(size / (0.035 + 1.2 * blur(size, 12)) / 2.2, 0, 1))

    @cached_property
    def line(self) -> Plane:
        """Thin outlines: the ridge of `edge`, 0..1."""
        ridge = self.edge - 0.75 * blur(self.edge, 2.6)
        return np.clip(ridge * 2.6, 0, 1).astype(np.float32)

    @cached_property
    def relief(self) -> Plane:
        """Light from the upper left on the luma taken as a height, about −1..1."""
        height = blur(self.gray, 1.2) + 0.6 * blur(self.gray, 4)
        gx, gy = cv2.Scharr(height, cv2.CV_32F, 1, 0) / 16, cv2.Scharr(height, cv2.CV_32F, 0, 1) / 16
        return paint(np.tanh((gx + gy) * 9))

    def grid(self, name: str) -> Plane:
        """A fixed pattern of this picture's size (see patterns.py)."""
        return patterns.tile(name, self.height, self.width)


def mix(a: NDArray[np.float32], b: NDArray[np.float32], share: Plane) -> Picture:
    return np.asarray(a + (b - a) * share[..., None], np.float32)


def vivid(picture: Picture, gain: float) -> Picture:
    gray = picture.mean(2, keepdims=True)
    return np.asarray(gray + (picture - gray) * gain, np.float32)
