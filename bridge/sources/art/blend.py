"""Pictures with soft edges, put onto a canvas cheaply: premultiplied colour and what it lets through, both uint8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bridge.frame import Pixels

Array = NDArray[Any]
Color = tuple[float, float, float]
"""Red, green, blue, 0 to 255."""


@dataclass(frozen=True, slots=True)
class Layer:
    """`color` is premultiplied, `keep` is 255 − alpha; both uint8 (height, width, 3): blending is two SIMD calls."""

    color: Pixels
    keep: Pixels

    @classmethod
    def of(cls, color: Array, alpha: Array) -> Layer:
        """From straight colour (height, width, 3), 0 to 255, and alpha (height, width), 0 to 1."""
        a = np.clip(alpha, 0, 1)[..., None].astype(np.float32)
        premultiplied = np.clip(color * a + 0.5, 0, 255).astype(np.uint8)
        keep = np.repeat((255 - a * 255 + 0.5).astype(np.uint8), 3, axis=2)
        return cls(premultiplied, keep)

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        return self.color.shape[1], self.color.shape[0]

    def over(self, canvas: Pixels, x: float, y: float) -> None:
        """Blend onto `canvas` with the top left corner at (x, y), to the nearest pixel, clipped."""
        left, top = round(x), round(y)
        height, width = canvas.shape[:2]
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + self.color.shape[1], width), min(top + self.color.shape[0], height)
        if x0 >= x1 or y0 >= y1:
            return
        part = canvas[y0:y1, x0:x1]
        mine = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        cv2.multiply(part, self.keep[mine], dst=part, scale=1 / 255)
        cv2.add(part, self.color[mine], dst=part)

    def window(self, x: float, width: int) -> Layer:
        """`width` columns from column `x` on, interpolated: what a slowly sliding background needs to not judder."""
        return Layer(columns(self.color, x, width), columns(self.keep, x, width))

    def warped(self, matrix: Array, size: tuple[int, int]) -> Layer:
        """Under a 2×3 affine `matrix` onto a canvas of `size` (width, height)."""
        color = cv2.warpAffine(self.color, matrix, size, flags=cv2.INTER_LINEAR)
        keep = cv2.warpAffine(self.keep, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255))
        return Layer(color, keep)


def columns(image: Pixels, x: float, width: int) -> Pixels:
    """`width` columns of `image` from column `x` on, between two whole ones: an eighth of what getRectSubPix costs."""
    x = min(max(x, 0.0), image.shape[1] - width - 1.0)
    first = int(x)
    left, right = image[:, first : first + width], image[:, first + 1 : first + 1 + width]
    shifted: Pixels = cv2.addWeighted(left, 1 - (x - first), right, x - first, 0)
    return shifted


def mix(a: Color, b: Color, t: float) -> Color:
    """From a (t = 0) to b (t = 1)."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def lit(color: Color, gain: float) -> Color:
    """`color` under `gain` times the light, clipped."""
    return (min(255.0, color[0] * gain), min(255.0, color[1] * gain), min(255.0, color[2] * gain))


def noise(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 5) -> Array:
    """Smooth 1/f noise, float32 (height, width), 0 to 1; `cells` is the number of largest blobs along the width."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        across = max(2, round(cells * 2**octave))
        down = max(2, round(across * height / max(1, width)))
        grid = rng.random((down, across), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(1e-6, high - low)


def shadow(width: float, height: float, strength: float) -> Layer:
    """A soft dark ellipse whose visible size is about width × height."""
    w, h = max(3, round(width * 1.6)), max(3, round(height * 1.6))
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    r2 = ((x - w / 2 + 0.5) / (width / 2)) ** 2 + ((y - h / 2 + 0.5) / (max(height, 1.0) / 2)) ** 2
    return Layer.of(np.zeros((h, w, 3)), strength * np.exp(-1.2 * r2))
