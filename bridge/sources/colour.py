"""Decoded video pictures to RGB: the matrix and range that the file names, in the fewest operations.

8-bit planar YUV, what nearly every file decodes to, goes through OpenCV: chroma up, merge, one matrix. That is within
one level of exact arithmetic and takes 1.6 ms at 1080p; swscale needs 9 ms for it, and shows white as 253 if hurried.
Everything else (10 bits and more, alpha, RGB, palettes) goes through swscale at its most accurate.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from bridge.frame import Pixels

HD_LINES = 720
"""From here on, a movie that does not say which matrix it uses has BT.709's; below it, BT.601's."""
PLANAR = frozenset({"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"})
_LUMA = {Colorspace.ITU709: (0.2126, 0.0722), Colorspace.ITU601: (0.299, 0.114), Colorspace.BT2020: (0.2627, 0.0593)}
"""Weights of red and blue in Y: BT.709, BT.601, BT.2020."""
_EXACT = int(Interpolation.BILINEAR) | int(Interpolation.ACCURATE_RND) | int(Interpolation.FULL_CHR_H_INT)


class ToRgb:
    """Converts the pictures of one movie. Keeps swscale's context, which PyAV would make anew for each."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, image: Any) -> Pixels:
        """`image` is an av.VideoFrame; uint8 (height, width, 3) RGB, or 4 RGBA where the format has alpha."""
        space, full = matrix(image), is_full(image)
        if image.format.name in PLANAR:
            return _planar(image, yuv_to_rgb(*_LUMA[space], full))
        converted = self._reformatter.reformat(
            image,
            format="rgba" if any(c.is_alpha for c in image.format.components) else "rgb24",
            src_colorspace=space,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
        )
        return np.asarray(converted.to_ndarray(), np.uint8)


def matrix(image: Any) -> Colorspace:
    """Which YUV this is: as tagged (numbers of ITU-T H.273), else by size."""
    if image.colorspace == 2:
        return Colorspace.ITU709 if image.height >= HD_LINES else Colorspace.ITU601
    if image.colorspace in (9, 10):
        return Colorspace.BT2020
    return Colorspace.ITU709 if image.colorspace == 1 else Colorspace.ITU601


def is_full(image: Any) -> bool:
    """Whether black is 0 and white 255, rather than 16 and 235."""
    return bool(image.color_range == ColorRange.JPEG or image.format.name.startswith("yuvj"))


@cache
def yuv_to_rgb(red: float, blue: float, full: bool) -> NDArray[np.float32]:
    """3×4 matrix from 8-bit (Y, Cb, Cr, 1) to (R, G, B), for these weights of red and blue in Y (ITU-T H.273, 8.3)."""
    green = 1 - red - blue
    y_scale, c_scale, black = (1.0, 1.0, 0) if full else (255 / 219, 255 / 224, 16)
    linear = np.array(
        [
            [y_scale, 0, 2 * (1 - red) * c_scale],
            [y_scale, -2 * blue * (1 - blue) / green * c_scale, -2 * red * (1 - red) / green * c_scale],
            [y_scale, 2 * (1 - blue) * c_scale, 0],
        ]
    )
    offset = -linear @ np.array([black, 128, 128])
    return np.hstack([linear, offset[:, None]]).astype(np.float32)


def rgb_to_yuv420(rgb: Pixels, space: Colorspace) -> Pixels:
    """uint8 (height, width, 3) RGB with even sides as planar 4:2:0, video range: uint8 (height · 3/2, width).

    The layout is av.VideoFrame's for `yuv420p`: Y, then a quarter each of Cb and Cr.
    """
    height, width = rgb.shape[:2]
    forward = np.linalg.inv(yuv_to_rgb(*_LUMA[space], False)[:, :3].astype(np.float64))
    offset = np.array([16.0, 128.0, 128.0])[:, None]
    luma, *chroma = cv2.split(cv2.transform(rgb, np.hstack([forward, offset]).astype(np.float32)))
    halves = [
        cv2.resize(c, (width // 2, height // 2), interpolation=cv2.INTER_AREA).reshape(-1, width // 2) for c in chroma
    ]
    packed = np.empty((height * 3 // 2, width), np.uint8)
    packed[:height] = luma
    packed[height:].reshape(-1)[:] = np.concatenate(halves).reshape(-1)
    return packed


def _planar(image: Any, to_rgb: NDArray[np.float32]) -> Pixels:
    luma, *chroma = (_plane(p) for p in image.planes)
    height, width = luma.shape
    across = 2 if chroma[0].shape[1] < width else 1
    down = 2 if chroma[0].shape[0] < height else 1
    if across * down > 1:
        size = (chroma[0].shape[1] * across, chroma[0].shape[0] * down)
        chroma = [cv2.resize(c, size, interpolation=cv2.INTER_LINEAR)[:height, :width] for c in chroma]
    rgb: Pixels = cv2.transform(cv2.merge([luma, *chroma]), to_rgb)
    return rgb


def _plane(plane: Any) -> Pixels:
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
