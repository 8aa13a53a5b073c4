"""Pixels to the picture that the networks see, and back. On the device, without a host sync."""

from __future__ import annotations

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.fit import Fit, source_box, target_box
from pipelines.kernels import kernel


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
    mixed: Tensor = _mixed_bytes(image, source, mix)
    return mixed


def to_bytes(image: Tensor) -> Tensor:
    """fp32 [1, 3, H, W] in [-1, 1] to uint8 [H, W, 3], contiguous; rounded to nearest."""
    made: Tensor = _bytes(image)
    return made


def _bytes_everywhere(image: Tensor) -> Tensor:
    levels = torch.add(128.0, image, alpha=127.5).to(torch.uint8)
    return levels[0].permute(1, 2, 0).contiguous()


def _bytes_on_processor(image: Tensor) -> Tensor:
    """In one pass over the picture, where torch makes four."""
    height, width = image.shape[2:]
    levels = image[0].permute(1, 2, 0).reshape(height, 3 * width).numpy()
    made = cv2.convertScaleAbs(levels, alpha=127.5, beta=127.5)
    return torch.from_numpy(made).view(height, width, 3)


def _mixed_everywhere(image: Tensor, source: Tensor, mix: Tensor) -> Tensor:
    return _bytes_everywhere(torch.lerp(source, image, mix))


def _mixed_on_processor(image: Tensor, source: Tensor, mix: Tensor) -> Tensor:
    return _bytes_on_processor(image if float(mix) == 1.0 else torch.lerp(source, image, mix))


_bytes = kernel("to_bytes(Tensor image) -> Tensor", _bytes_everywhere, _bytes_on_processor)
_mixed_bytes = kernel(
    "mixed_bytes(Tensor image, Tensor source, Tensor mix) -> Tensor", _mixed_everywhere, _mixed_on_processor
)


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
