"""Pixels between the host and the networks' device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]
MOST_NUMBERS = 8


class Transfer:
    """One stream's way up and down. On CUDA through pinned memory, so that the copies are plain DMA."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pinned = device.type == "cuda"
        self._up = self._down = torch.empty(0, dtype=torch.uint8)
        self._numbers = torch.zeros(MOST_NUMBERS, pin_memory=self._pinned)
        self._done = torch.cuda.Event(blocking=True) if self._pinned else None  # type: ignore[no-untyped-call]

    def up(self, pixels: Pixels) -> Tensor:
        """uint8 (h, w, c) to a tensor on the device; on the CPU, where it can, the same memory."""
        host = torch.from_numpy(pixels if pixels.flags.writeable and pixels.flags.c_contiguous else pixels.copy())
        if not self._pinned:
            return host.to(self.device)
        if self._up.shape != host.shape:
            self._up = torch.empty(host.shape, dtype=torch.uint8, pin_memory=True)
        return self._up.copy_(host).to(self.device, non_blocking=True)

    def down(self, picture: Tensor, numbers: Sequence[Tensor]) -> tuple[Pixels, list[float]]:
        """uint8 [H, W, C] as numpy and a few 0-dim tensors as numbers, exact up to 2^24, once the device is done with
        all: the one wait of a frame. On CUDA the next call overwrites the pixels."""
        if not self._pinned or self._done is None:
            return picture.cpu().numpy(), [float(number) for number in numbers]
        if self._down.shape != picture.shape:
            self._down = torch.empty(picture.shape, dtype=torch.uint8, pin_memory=True)
        self._down.copy_(picture, non_blocking=True)
        for place, number in zip(self._numbers, numbers, strict=False):
            place.copy_(number.to(torch.float32), non_blocking=True)
        self._done.record()
        self._done.synchronize()
        return self._down.numpy(), self._numbers[: len(numbers)].tolist()
