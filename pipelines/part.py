"""A frame in which a part of the picture is painted, and the rest stays on show: what `step` does otherwise then.

Where the part lies is a number on the device, `Knobs.place`; how large it is stands in the mode.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.coherence.place import cut_out, put_back
from pipelines.knobs import Knobs
from pipelines.prepare import in_numbers
from pipelines.state import StreamState


def seen(source: Tensor, knobs: Knobs) -> Tensor:
    """What of the fitted input, [1, 3, H, W], is painted over: all of it, or the part."""
    size = knobs.mode.window
    return cut_out(source, knobs.place, *size) if size is not None and knobs.mode.partial else source


def noise_there(noise: Tensor, knobs: Knobs) -> Tensor:
    """What of the whole picture's noise, [1, C, h, w], lies in the part."""
    size, pixels = knobs.mode.window, knobs.mode.size[0] // noise.shape[2]
    assert size is not None, "there is no part"
    return cut_out(noise, knobs.place / pixels, size[0] // pixels, size[1] // pixels)


def placed(image: Tensor, source: Tensor, knobs: Knobs, state: StreamState) -> Tensor:
    """The picture on show, [1, 3, H, W] in [-1, 1], with `image`, [1, 3, h, w], where the input moved.

    source: the fitted input, all of it. What is not finite is not shown: that place keeps its pixels.
    """
    assert state.refresh is not None, "there is no picture to keep"
    good = torch.isfinite(image.sum())
    part, there = in_numbers(seen(source, knobs)), knobs.place
    shown = state.refresh.part(
        image.clamp(-1.0, 1.0), part, good, there, knobs.refresh_threshold, knobs.refresh_max_age
    )
    put_back(state.picture, cut_out(shown, there, image.shape[2], image.shape[3]), there)
    state.unbroken.copy_(good)
    state.held.add_(~good)
    return shown
