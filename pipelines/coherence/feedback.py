"""The previous output, moved as the input moved, as part of what is painted over next.

In one frame, with the flow from the previous input to this one:

    known = trust(flow, state.source, source) * state.unbroken * ~cut
    init = feedback(source, state.picture, flow, known, params.feedback)          # pixels
    x0 = feedback(nets.encode(source), state.latent, flow, known, params.feedback)  # or latents
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.preprocess.warp import Kernel, inside, warp

SURE, LOST = 6.0, 24.0
"""Levels of 255: a prediction that misses the input by less is believed, by more is not."""


def trust(flow: Tensor, previous: Tensor, current: Tensor) -> Tensor:
    """Where the past can be used: [1, 1, H, W] in 0..1.

    flow [1, 2, H, W] px, backward; previous and current are the *inputs*, [1, 3, H, W] in [-1, 1]. Trusted is what was
    in the picture a frame ago and looks, moved, like what is there now: that leaves out what has been uncovered, what
    changed its light, and wherever the flow is wrong. The inputs decide, because outputs may differ for good reasons.
    """
    missed = (warp(previous, flow) - current).abs().mean(dim=1, keepdim=True) * 127.5
    missed = F.avg_pool2d(missed, 5, stride=1, padding=2, count_include_pad=False)
    return torch.clamp((LOST - missed) / (LOST - SURE), 0.0, 1.0) * inside(flow)


def feedback(
    init: Tensor, previous: Tensor, flow: Tensor, known: Tensor, amount: Tensor, kernel: Kernel = "bicubic"
) -> Tensor:
    """`init` with `amount` of the previous output in it, where that is known.

    init, previous: fp32 [1, C, h, w], both pictures or both latents. flow [1, 2, H, W] px, backward, and known
    [1, 1, H, W] in 0..1 may be larger. amount: 0-dim, 0..1. At 0, and where nothing is known, init comes back
    bit-equal, whatever `previous` holds. After Deforum's hybrid video and Rerender-A-Video's pixel fusion (Yang 2023).
    """
    size = (init.shape[-2], init.shape[-1])
    if known.shape[-2:] != size:
        known = F.interpolate(known, size, mode="area")
    return blend(init, warp(previous, flow, kernel), known * amount)


def blend(new: Tensor, past: Tensor, weight: Tensor) -> Tensor:
    """From `new` (weight 0) to `past` (1); a weight of 0 keeps even a NaN of the past out."""
    return torch.where(weight > 0.0, torch.lerp(new, past, weight), new)
