"""Whether the input moved enough since it was last painted to be painted again.

Decided on this frame, not on the one before, and against the input of the last *painted* frame, so that a slow drift
adds up until it is seen. A small thing that moves counts: the picture is judged by that of its parts that changed most.
After `longest` skips in a row a frame is painted whatever the input does.

Two forms of one rule. `Similarity` decides on the device, for engines with conditional graph nodes (the branch reads
`paint`) and to hold the output inside an ordinary graph. `HostSimilarity` decides from the pixels before they are
uploaded, for engines that run either the whole frame's graph or none: only the host can choose that without a round
trip.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

PARTS = 32
"""The picture is judged in PARTS x PARTS parts."""


def change(last: Tensor, source: Tensor) -> Tensor:
    """Mean absolute difference of the part that changed most, in levels of 255, 0-dim; inputs [1, 3, H, W] in [-1, 1].

    A camera's grain of sigma levels alone gives about 1.2 sigma.
    """
    return F.adaptive_avg_pool2d((source - last).abs().mean(dim=1), PARTS).amax() * 127.5


class Similarity:
    """The device's form; a stream's past, written in place. Capturable."""

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        """`size`: (height, width) of the fitted input."""
        layout = torch.zeros(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
        self.last = layout
        """The input of the last painted frame."""
        self.started = torch.zeros((), dtype=torch.bool, device=device)
        self.skips = torch.zeros((), dtype=torch.int32, device=device)
        """Frames skipped in a row."""
        self.change = torch.zeros((), device=device)
        """What `change` said last, in levels: for telemetry, and to find a threshold with."""

    def __call__(self, source: Tensor, threshold: Tensor, longest: Tensor, force: Tensor) -> Tensor:
        """Whether to paint, 0-dim bool.

        threshold: 0-dim, levels of 255; 0 paints every frame. longest: 0-dim, skips in a row. force: 0-dim bool, for
        a parameter that moved, a fading prompt, or a frame before this one that was not finite.
        """
        self.change.copy_(change(self.last, source))
        paint = (self.change >= threshold) | (self.skips >= longest) | force | ~self.started
        self.started.fill_(True)
        self.last.copy_(torch.where(paint, source, self.last))
        self.skips.add_(1).mul_(~paint)
        return paint

    def reset(self) -> None:
        """Forget the past: the next frame is painted."""
        self.started.fill_(False)
        self.skips.zero_()


class HostSimilarity:
    """The host's form, for uint8 pixels (h, w, 1 | 3 | 4); looks at every second row, alpha included."""

    def __init__(self) -> None:
        self.change = 0.0
        self.skips = 0
        self._last: NDArray[np.uint8] | None = None
        self._difference = np.empty(0, np.uint8)

    def __call__(self, pixels: NDArray[np.uint8], threshold: float, longest: int, force: bool = False) -> bool:
        """Whether to paint. Arguments as of `Similarity`; a size that changed is painted."""
        rows = pixels[::2]
        if self._last is None or self._last.shape != rows.shape:
            self._last, self._difference = rows.copy(), np.empty_like(rows, order="C")
            self.change, self.skips = 255.0, 0
            return True
        self.change = self._change(rows, self._last)
        if self.change >= threshold or self.skips >= longest or force:
            np.copyto(self._last, rows)
            self.skips = 0
            return True
        self.skips += 1
        return False

    def _change(self, rows: NDArray[np.uint8], last: NDArray[np.uint8]) -> float:
        cv2.absdiff(rows, last, self._difference)
        height, width = rows.shape[:2]
        parts = (min(PARTS, width), min(PARTS, height))
        means = cv2.resize(self._difference, parts, interpolation=cv2.INTER_AREA)
        return float(means.reshape(-1, rows.shape[2]).mean(axis=1).max())

    def reset(self) -> None:
        """Forget the past: the next frame is painted."""
        self._last = None
