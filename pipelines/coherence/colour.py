"""Colour spaces on the device: as numbers, and in the 8 bits in which OpenCV keeps them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Space = Literal["lab", "hsv", "rgb"]

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_TO_RGB = ((3.240479, -1.537150, -0.498535), (-0.969256, 1.875991, 0.041556), (0.055648, -0.204043, 1.057311))
_WHITE = (0.950456, 1.0, 1.088754)
"""D65, ITU-R BT.709 primaries."""
_KNEE, _SLOPE, _FOOT = 216 / 24389, 841 / 108, 16 / 116
"""CIE's cube root goes over into a straight line below the knee."""


def split(image: Tensor, space: Space) -> Tensor:
    """fp32 [1, 3, H, W] RGB in [-1, 1] to [3, H, W]: L* 0..100 with a* and b*; hue in turns,
    saturation and value, 0..1; or RGB 0..1. What is outside of the range is clipped first."""
    rgb = (image[0] * 0.5 + 0.5).clamp(0.0, 1.0)
    if space == "rgb":
        return rgb
    return _lab(rgb) if space == "lab" else _hsv(rgb)


def join(parts: Tensor, space: Space) -> Tensor:
    """The inverse of `split`; colours that no screen has are clipped."""
    rgb = parts if space == "rgb" else _lab_to_rgb(parts) if space == "lab" else _hsv_to_rgb(parts)
    return (rgb.clamp(0.0, 1.0) * 2.0 - 1.0)[None]


def _lab(rgb: Tensor) -> Tensor:
    x, y, z = (_root(v / w) for v, w in zip(_mixed(_linear(rgb), _TO_XYZ), _WHITE, strict=True))
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)))


def _lab_to_rgb(lab: Tensor) -> Tensor:
    y = (lab[0] + 16.0) / 116.0
    roots = (y + lab[1] / 500.0, y, y - lab[2] / 200.0)
    xyz = [_cube(v) * w for v, w in zip(roots, _WHITE, strict=True)]
    linear = torch.stack(_mixed(xyz, _TO_RGB)).clamp(0.0, 1.0)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _linear(rgb: Tensor) -> Tensor:
    """The sRGB curve undone."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _mixed(v: Tensor | list[Tensor], rows: tuple[tuple[float, float, float], ...]) -> list[Tensor]:
    return [a * v[0] + b * v[1] + c * v[2] for a, b, c in rows]


def _root(v: Tensor) -> Tensor:
    return torch.where(v > _KNEE, v.clamp(min=_KNEE) ** (1 / 3), _SLOPE * v + _FOOT)


def _cube(v: Tensor) -> Tensor:
    return torch.where(v > _KNEE ** (1 / 3), v * v * v, (v - _FOOT) / _SLOPE)


def _hsv(rgb: Tensor) -> Tensor:
    r, g, b = rgb
    value, chroma = rgb.amax(0), rgb.amax(0) - rgb.amin(0)
    c = chroma.clamp(min=1e-6)
    sextant = torch.where(value == r, (g - b) / c, torch.where(value == g, 2.0 + (b - r) / c, 4.0 + (r - g) / c))
    return torch.stack((torch.remainder(sextant / 6.0, 1.0), chroma / value.clamp(min=1e-6), value))


def _hsv_to_rgb(hsv: Tensor) -> Tensor:
    hue, saturation, value = hsv
    out = []
    for n in (5.0, 3.0, 1.0):
        k = torch.remainder(n + hue * 6.0, 6.0)
        out.append(value - value * saturation * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))
    return torch.stack(out)


def split8(image: Tensor, space: Space) -> Tensor:
    """fp32 [1, 3, H, W] RGB in [-1, 1] to OpenCV's 8-bit channels, int32 [3, H, W]: L* scaled to 0..255, a* and b*
    plus 128; hue halved, 0..179, with saturation and value 0..255; or RGB.

    Rounded as OpenCV's fixed point rounds, because what is matched afterwards is counted by level. NaN becomes grey:
    these numbers are used as indices, and a wrong one takes the whole CUDA context down.
    """
    rgb = torch.floor(image[0].nan_to_num(0.0).clamp(-1.0, 1.0) * 127.5 + 128.0).to(torch.int32)
    if space == "rgb":
        return rgb
    return _lab8(rgb) if space == "lab" else _hsv8(rgb)


def join8(parts: Tensor, space: Space) -> Tensor:
    """8-bit channels, whole numbers [3, H, W], to fp32 [1, 3, H, W] in [-1, 1] on whole levels of 255."""
    a, b, c = parts.to(torch.float32)
    if space == "lab":
        image = join(torch.stack((a * (100 / 255), b - 128.0, c - 128.0)), space)
    else:
        image = join(torch.stack((a / (180.0 if space == "hsv" else 255.0), b / 255.0, c / 255.0)), space)
    return torch.floor(image * 127.5 + 128.0) / 127.5 - 1.0


def _lab8(rgb: Tensor) -> Tensor:
    """Light in 1/2040, weights in 1/4096, roots in 1/32768."""
    linear = torch.round(_linear(rgb / 255.0) * 2040.0)
    roots = []
    for row, white in zip(_TO_XYZ, _WHITE, strict=True):
        weights = [round(4096 * w / white) for w in row]
        light = torch.floor((weights[0] * linear[0] + weights[1] * linear[1] + weights[2] * linear[2]) / 4096.0 + 0.5)
        roots.append(torch.round(_root(light / 2040.0) * 32768.0))
    x, y, z = roots
    lightness = (296.0 * y - 1336934.0) / 32768.0
    lab = torch.stack((lightness, 500.0 * (x - y) / 32768.0 + 128.0, 200.0 * (y - z) / 32768.0 + 128.0))
    return torch.floor(lab + 0.5).clamp(0.0, 255.0).to(torch.int32)


def _hsv8(rgb: Tensor) -> Tensor:
    """Quotients in 1/4096."""
    r, g, b = rgb
    value, chroma = rgb.amax(0), rgb.amax(0) - rgb.amin(0)
    turned = torch.where(value == r, g - b, torch.where(value == g, b - r + 2 * chroma, r - g + 4 * chroma))
    hue = (turned * _quotient(180 << 12, 6 * chroma) + 2048) >> 12
    saturation = (chroma * _quotient(255 << 12, value) + 2048) >> 12
    return torch.stack((torch.where(hue < 0, hue + 180, hue), saturation, value))


def _quotient(over: int, under: Tensor) -> Tensor:
    """over / under to the nearest, 0 for a division by 0."""
    safe = under.clamp(min=1)
    return torch.where(under > 0, torch.div(2 * over + safe, 2 * safe, rounding_mode="floor"), 0)
