"""From the latent to the picture. On a processor, a plain frame's bytes and its check are made on the way."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from engines.base import Finished, Nets, finisher, takes_bytes
from pipelines.knobs import Knobs

TILE = 128 * 1024
"""Numbers of a picture that are looked at before the next ones: they stay in a core's own cache meanwhile."""
_ONES = np.ones(TILE, np.float32)


def develop(x0: Tensor, knobs: Knobs, nets: Nets) -> tuple[Tensor, Finished | None]:
    """x0 [1, C, h, w] to the picture, fp32 [1, 3, H, W], and in a plain frame to what else is made of it."""
    if not plain(knobs, nets):
        return nets.decode(x0), None
    finished = finisher(nets.decode) or (lambda x0: finished_here(nets.decode(x0)))
    ready = finished(x0)
    return ready.image, ready


def plain(knobs: Knobs, nets: Nets) -> bool:
    """Whether networks alone see this frame's picture, on a processor that does each operation as it comes."""
    return knobs.traits.plain and _on_processor(nets)


def _on_processor(nets: Nets) -> bool:
    return nets.device.type == "cpu" and nets.machine is None


def sees_bytes(knobs: Knobs, nets: Nets) -> bool:
    """Whether the input may stay in bytes, which the encoder takes as they are; nothing else sees them, or a part."""
    part = knobs.mode.partial and not knobs.mode.units and _on_processor(nets)
    return (part or plain(knobs, nets)) and takes_bytes(nets.encode)


def finished_here(image: Tensor) -> Finished:
    """fp32 [1, 3, H, W] on a processor, which is changed. One sum decides: NaN and infinity survive addition."""
    height, width = image.shape[2:]
    numbers = image[0].permute(1, 2, 0).contiguous().numpy().reshape(height, 3 * width)
    levels = np.empty((height, 3 * width), np.uint8)
    total, rows = 0.0, max(1, TILE // (3 * width))
    for y in range(0, height, rows):
        tile = numbers[y : y + rows]
        total += float(np.dot(tile.reshape(-1), _ONES[: tile.size]))
        np.clip(tile, -1.0, 1.0, out=tile)
        cv2.convertScaleAbs(tile, levels[y : y + rows], 127.5, 127.5)
    held = torch.from_numpy(numbers.reshape(1, height, width, 3)).permute(0, 3, 1, 2)
    return Finished(held, torch.from_numpy(levels.reshape(height, width, 3)), math.isfinite(total))
