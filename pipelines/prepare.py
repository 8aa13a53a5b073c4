"""Pixels to the picture that the networks see, and back. On the device, without a host sync."""

from __future__ import annotations

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.base import Finished
from engines.fit import Fit, source_box, target_box
from engines.levels import signed as signed_by_table
from pipelines.kernels import kernel


def prepare(frame: Tensor, size: tuple[int, int], fit: Fit, as_bytes: bool = False) -> Tensor:
    """uint8 [h, w, 1 | 3 | 4] of any size to fp32 [1, 3, H, W] in [-1, 1], channels last; alpha is dropped.

    Shrinking is antialiased. Letterbox bars are black. `as_bytes`: to uint8, 0..255; on a processor alone.
    """
    if frame.shape[2] == 4 and frame.device.type == "cpu":
        frame = _opaque(frame)
    x = frame.permute(2, 0, 1).unsqueeze(0)
    if tuple(x.shape[2:]) != size:
        x = _resize(x, size, fit)
    x = x[:, :3] if x.shape[1] > 3 else x
    x = x if as_bytes else signed(x)
    return x if x.shape[1] == 3 else x.expand(1, 3, *size).contiguous(memory_format=torch.channels_last)


def signed(levels: Tensor) -> Tensor:
    """[1, C, H, W], 0..255, uint8 or fp32, to fp32 in [-1, 1]."""
    found: Tensor = _signed(levels)
    return found


def finish(image: Tensor, source: Tensor, mix: Tensor, ready: Finished | None = None) -> Tensor:
    """fp32 [1, 3, H, W] in [-1, 1] to uint8 [H, W, 3], after `mix` of it over `source`, which with `ready` may be
    uint8, 0..255. `ready`: what was made of `image` before, or of another picture."""
    if ready is not None:
        if image is ready.image and float(mix) == 1.0:
            return ready.levels
        source = in_numbers(source)
    mixed: Tensor = _mixed_bytes(image, source, mix)
    return mixed


def in_numbers(source: Tensor) -> Tensor:
    """What `prepare` gave, as fp32 in any case."""
    return signed(source) if source.dtype is torch.uint8 else source


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


def _signed_everywhere(levels: Tensor) -> Tensor:
    return torch.add(-1.0, levels, alpha=1 / 127.5)


def _signed_on_processor(levels: Tensor) -> Tensor:
    return signed_by_table(levels) if levels.dtype is torch.uint8 else _signed_everywhere(levels)


def _opaque_everywhere(frame: Tensor) -> Tensor:
    return frame[:, :, :3].contiguous()


def _opaque_on_processor(frame: Tensor) -> Tensor:
    return torch.from_numpy(cv2.cvtColor(frame.contiguous().numpy(), cv2.COLOR_RGBA2RGB))


def _mixed_everywhere(image: Tensor, source: Tensor, mix: Tensor) -> Tensor:
    return _bytes_everywhere(torch.lerp(source, image, mix))


def _mixed_on_processor(image: Tensor, source: Tensor, mix: Tensor) -> Tensor:
    return _bytes_on_processor(image if float(mix) == 1.0 else torch.lerp(in_numbers(source), image, mix))


_opaque = kernel("opaque(Tensor frame) -> Tensor", _opaque_everywhere, _opaque_on_processor)
_signed = kernel("signed(Tensor levels) -> Tensor", _signed_everywhere, _signed_on_processor)
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
