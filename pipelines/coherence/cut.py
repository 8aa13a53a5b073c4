"""Whether the input is a new scene: 0 or 1, on the device, in the frame that shows it.

Two differences must agree, each of a 32 x 32 thumbnail. Colours: how far the histogram's mass has to be carried (the
earth mover's distance, per channel; a pan leaves it almost as it was). Layout: one minus the correlation of the
brightness, less its local mean (a flash, a dimmer, coloured light leave that almost as it was). A cut changes both.

A picture without content, black, white or nearly flat, is no scene: it is passed over, so that a strobe does not cut
twice per flash, and what comes after it is compared with what came before it.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SIDE = 32
COLOURS = 5.0
"""Levels of 255 that mean a cut, if the layout agrees."""
LAYOUT = 0.55
"""One minus correlation that means a cut, if the colours agree."""
CONTENT = 6.0
"""Standard deviation of a thumbnail's brightness, in levels of 255, below which there is nothing to compare."""


def thumbnail(source: Tensor) -> Tensor:
    """[1, 3, H, W] in [-1, 1] to [3, 1024] in levels of 255."""
    return F.adaptive_avg_pool2d(source, SIDE).flatten(2)[0] * 127.5 + 127.5


def difference(a: Tensor, b: Tensor) -> Tensor:
    """How different two thumbnails are, 0-dim: 1 is the border between the same scene and another."""
    colours = (a.sort(dim=1).values - b.sort(dim=1).values).abs().mean()
    layout = 1.0 - _correlation(_detail(a), _detail(b))
    return torch.minimum(colours / COLOURS, layout / LAYOUT)


def _detail(thumb: Tensor) -> Tensor:
    """Brightness without what most scenes share: a light sky over a dark floor."""
    grey = thumb.mean(dim=0).view(1, SIDE, SIDE)
    return (grey - F.avg_pool2d(grey, 9, stride=1, padding=4, count_include_pad=False)).flatten()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() * torch.rsqrt((a * a).sum() * (b * b).sum() + 1.0)


class CutDetector:
    """A stream's past, written in place. Capturable."""

    def __init__(self, device: torch.device) -> None:
        self.scene = torch.zeros(3, SIDE * SIDE, device=device)
        """The last thumbnail with content."""
        self.started = torch.zeros((), dtype=torch.bool, device=device)
        self.difference = torch.zeros((), device=device)
        """What `difference` said last: for telemetry, and to find a sensitivity with."""
        self.count = torch.zeros((), dtype=torch.int32, device=device)
        """Cuts since the stream was made; beginnings are none."""

    def __call__(self, source: Tensor, sensitivity: Tensor) -> Tensor:
        """Whether `source`, [1, 3, H, W] in [-1, 1], begins a scene: 0-dim bool. The first frame with content does.

        sensitivity: 0-dim; 1 is made for ordinary material, 0 never cuts (but for the first frame), 2 cuts at half the
        difference.
        """
        small = thumbnail(source)
        content = small.mean(dim=0).std() >= CONTENT
        self.difference.copy_(difference(self.scene, small))
        cut = content & ((self.difference * sensitivity > 1.0) | ~self.started)
        self.scene.copy_(torch.where(content, small, self.scene))
        self.count.add_(cut & self.started)
        self.started.logical_or_(content)
        return cut

    def reset(self) -> None:
        """Forget the past: the next frame with content begins a scene."""
        self.started.fill_(False)


class HostScene:
    """The same two differences on the host, before a frame is uploaded; for uint8 pixels (h, w, 1 | 3 | 4)."""

    def __init__(self) -> None:
        self.difference = 0.0
        """What `same` found last: 1 is the border."""
        self._thumb: NDArray[np.float32] = np.zeros((SIDE, SIDE, 3), np.float32)
        """Of the picture that was taken last."""

    def same(self, pixels: NDArray[np.uint8], sensitivity: float) -> bool:
        """Whether `pixels` show the scene that was taken. sensitivity: as of CutDetector.

        Flat pictures count here: the question is whether what was seen in that one may stand for this one.
        """
        self.difference = host_difference(self._thumb, host_thumbnail(pixels))
        return self.difference * sensitivity <= 1.0

    def take(self, pixels: NDArray[np.uint8]) -> None:
        """From now on this is the scene."""
        self._thumb = host_thumbnail(pixels)


def host_thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (h, w, 1 | 3 | 4) to fp32 (32, 32, 3), in levels. Every second row is looked at."""
    rows = pixels[::2, :, :3] if pixels.shape[0] >= 2 * SIDE else pixels[:, :, :3]
    small = np.asarray(cv2.resize(rows, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)
    return small if small.ndim == 3 else np.repeat(small[..., None], 3, axis=2)


def host_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """As `difference`."""
    flat = [np.sort(thumb.reshape(-1, 3), axis=0) for thumb in (a, b)]
    colours = float(np.abs(flat[0] - flat[1]).mean())
    x, y = (_host_detail(thumb) for thumb in (a, b))
    layout = 1.0 - float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum() + 1.0))
    return min(colours / COLOURS, layout / LAYOUT)


def _host_detail(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = thumb.mean(axis=2)
    around = cv2.boxFilter(grey, -1, (9, 9), normalize=False, borderType=cv2.BORDER_CONSTANT)
    detail = grey - around / cv2.boxFilter(
        np.ones_like(grey), -1, (9, 9), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    return np.asarray(detail - detail.mean(), np.float32)
