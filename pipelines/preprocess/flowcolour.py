"""Optical flow as a picture, by Middlebury's colour wheel (Baker et al. 2011): the hue says where to, white is still.

As RAFT's and torchvision's `flow_to_image` draw it, because TemporalNet2 was taught with those pictures.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

ARCS = (("r", "g", 15, True), ("g", "r", 6, False), ("g", "b", 4, True), ("b", "g", 11, False), ("b", "r", 13, True),
        ("r", "b", 6, False))  # fmt: skip
"""From red round to red: which channel is full, which one moves, over how many hues, and whether it rises."""
STILL = 0.05
"""Pixels. Where nothing moves by more, the picture is drawn as if something moved by that: rounding is no motion."""


@cache
def wheel(device: torch.device) -> Tensor:
    """The wheel's hues, fp32 [55, 3] in 0..1, and the first once more."""
    hues = []
    for full, moving, count, rises in ARCS:
        for i in range(count):
            level = int(255 * i / count)
            colour = {full: 255, moving: level if rises else 255 - level}
            hues.append([colour.get(name, 0) / 255 for name in "rgb"])
    return torch.tensor([*hues, hues[0]], device=device)


def flow_to_image(flow: Tensor, still: float = STILL) -> Tensor:
    """Flow [1, 2, H, W], x then y, in px, to RGB [1, 3, H, W] in 0..1, on the steps that a byte has.

    Its longest vector, or one of `still` pixels if that is longer, has the full colour.
    """
    length = flow.square().sum(1, keepdim=True).sqrt()
    x, y = flow.div(length.amax().clamp_min(still)).unbind(1)
    length = (x.square() + y.square()).sqrt()
    colours = wheel(flow.device)
    place = (torch.atan2(-y, -x) / torch.pi + 1) / 2 * (len(colours) - 2)
    low = place.floor().long().clamp(0, len(colours) - 2)
    part = (place - low)[..., None]
    hue = colours[low] * (1 - part) + colours[low + 1] * part
    picture = 1 - length[..., None] * (1 - hue)
    return (picture * 255).floor().clamp(0, 255).div(255).permute(0, 3, 1, 2)
