"""Pixels to the picture that the networks see, and back. On the device, without a host sync."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.fit import Fit, source_box, target_box


def prepare(frame: Tensor, size: tuple[int, int], fit: Fit) -> Tensor:
    """uint8 [h, w, 1 | 3 | 4] of any size to fp32 [1, 3, H, W] in [-1, 1], channels last; alpha is dropped.

    Shrinking is antialiased. Letterbox bars are black.
    """
    x = frame.permute(2, 0, 1)[None]
    if tuple(x.shape[2:]) != size:
        x = _resize(x, size, fit)
    x = torch.add(-1.0, x[:, :3], alpha=1 / 127.5)
    return x if x.shape[1] == 3 else x.expand(1, 3, *size).contiguous(memory_format=torch.channels_last)


def finish(image: Tensor, source: Tensor, mix: Tensor) -> Tensor:
    """fp32 [1, 3, H, W] in [-1, 1] to uint8 [H, W, 3], after `mix` of it over `source`."""
    return to_bytes(torch.lerp(source, image, mix))


def to_bytes(image: Tensor) -> Tensor:
    """fp32 [1, 3, H, W] in [-1, 1] to uint8 [H, W, 3], contiguous; rounded to nearest."""
    levels = torch.add(128.0, image, alpha=127.5)
    if levels.device.type == "cpu":
        levels = levels.to(torch.int16)  # two conversions that torch has vectors for, in half the time of the one
    levels = levels.to(torch.uint8)
    return levels[0].permute(1, 2, 0).contiguous()


def _resize(x: Tensor, size: tuple[int, int], fit: Fit) -> Tensor:
    """[1, C, h, w] to [1, C, H, W]. On a CPU in bytes, for which torch has the faster kernel; elsewhere in fp32."""
    height, width = x.shape[2:]
    y, left, h, w = source_box(height, width, *size, fit)
    top, indent, th, tw = target_box(height, width, *size, fit)
    x = x[:, :, y : y + h, left : left + w]
    if x.device.type != "cpu":
        x = x.to(torch.float32)
    x = F.interpolate(x, (th, tw), mode="bilinear", antialias=True)
    if (th, tw) == size:
        return x
    return F.pad(x, (indent, size[1] - tw - indent, top, size[0] - th - top))
