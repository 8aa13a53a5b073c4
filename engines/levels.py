"""A picture's bytes as networks see them, on a processor: 256 numbers are read faster than they are computed."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def signed(levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 [1, C, H, W], 0..255, to `dtype` (16 or 32 bits) of the same shape in [-1, 1], channels last. On a CPU."""
    pixels = levels[0].permute(1, 2, 0).contiguous().numpy()
    numbers, _ = _table(dtype)
    found = torch.from_numpy(cv2.LUT(pixels, numbers).reshape(pixels.shape)).view(dtype)
    return found.permute(2, 0, 1)[None]


@cache
def _table(dtype: torch.dtype) -> tuple[NDArray[np.int16] | NDArray[np.float32], Tensor]:
    """The bits of each level's number, as OpenCV knows them; and what holds their memory."""
    levels = torch.add(-1.0, torch.arange(256, dtype=torch.uint8), alpha=1 / 127.5).to(dtype)
    return levels.view(torch.float32 if levels.itemsize == 4 else torch.int16).numpy(), levels
