"""Motion-gated refresh: where the input stands still, what is shown keeps the pixels that it has.

Judged in blocks, each against the input that it was painted from, so that a slow drift adds up until it is seen. A
block that moves goes on being painted until it is quiet (hysteresis: a camera's grain flips nothing), with its
neighbours, as the edge of what moves lies in them. After `longest` frames a block is painted anew whatever the input
does, not all of them in the same frame.

Everything is still computed: this is for what is seen, not for speed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.coherence.feedback import blend

BLOCK, CELL = 16, 4
"""Pixels along a side: of what is kept or painted, and of the parts in which change is measured. A picture has whole
ones, being a multiple of 64."""
QUIET = 0.5
"""A block that moves comes to rest below this part of the threshold."""
EARLY = 0.5
"""The first time after it moved a block may be due this part of `longest` early, so that neighbours part."""


class Refresh:
    """A stream's past, written in place. Capturable."""

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        """`size`: (height, width) of the picture."""
        rows, columns = size[0] // BLOCK, size[1] // BLOCK

        def picture() -> Tensor:
            return torch.zeros(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)

        self.shown = picture()
        """What was shown last, [1, 3, H, W]."""
        self.seen = picture()
        """The input that each block of it was painted from."""
        self.moving = torch.zeros(1, 1, rows, columns, dtype=torch.bool, device=device)
        self.age = torch.zeros(1, 1, rows, columns, device=device)
        """Frames since each block was painted."""
        self.known = torch.zeros((), dtype=torch.bool, device=device)
        """Whether there is anything to keep."""
        number = torch.arange(rows * columns, dtype=torch.float64).view(1, 1, rows, columns)
        self._part = torch.remainder(number * 0.6180339887, 1.0).to(device=device, dtype=torch.float32) * EARLY
        """The golden ratio's multiples lie evenly, and neighbours far apart."""

    def __call__(self, image: Tensor, source: Tensor, known: Tensor, threshold: Tensor, longest: Tensor) -> Tensor:
        """What is shown of `image`, painted from `source`; [1, 3, H, W] in [-1, 1] each.

        known: whether the past is of this scene, 0-dim bool. threshold: levels of 255, 0-dim. longest: frames, 0-dim.
        Bit-equal to `image` where it is painted, and to what was shown where it is kept, but for the feather.
        """
        known = self.known & known
        change = (
            F.max_pool2d(F.avg_pool2d((source - self.seen).abs().mean(1, keepdim=True), CELL), BLOCK // CELL) * 127.5
        )
        moving = change > threshold * torch.where(self.moving, QUIET, 1.0)
        moved = (F.max_pool2d(moving.float(), 3, stride=1, padding=1) > 0.0) | ~known
        painted = moved | (self.age >= longest)
        around = F.interpolate(painted.float(), (image.shape[-2], image.shape[-1]), mode="bilinear")
        weight = (2.0 * around).clamp(max=1.0)  # whole within a block, and a feather of half a block around it
        shown = blend(image, self.shown, 1.0 - weight)
        whole = F.interpolate(painted.float(), scale_factor=float(BLOCK), mode="nearest") > 0.0
        self.seen.copy_(torch.where(whole, source, self.seen))
        self.age.copy_(torch.where(moved, self._part * longest, torch.where(painted, 0.0, self.age + 1.0)))
        self.moving.copy_(moving)
        self.known.fill_(True)
        self.shown.copy_(shown)
        return shown

    def forget(self) -> None:
        """The next picture is shown as it is."""
        self.known.fill_(False)
