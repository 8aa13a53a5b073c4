"""Whether the input is a new scene: 0 or 1, on the device, in the frame that shows it.

Two differences must agree, each of a 32 x 32 thumbnail. Colours: how far the histogram's mass has to be carried (the
earth mover's distance, per channel; a pan leaves it almost as it was). Layout: one minus the correlation of the
brightness, less its local mean (a flash, a dimmer, coloured light leave that almost as it was). A cut changes both.

A picture without content, black, white or nearly flat, is no scene: it is passed over, so that a strobe does not cut
twice per flash, and what comes after it is compared with what came before it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
