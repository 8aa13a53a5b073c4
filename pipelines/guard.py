"""Never black: a frame that is not finite is not shown, and breaks the recurrence instead of the show."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.state import StreamState


def guard(image: Tensor, source: Tensor, state: StreamState) -> Tensor:
    """`image` if it is finite, else the last good one, else the fitted input; fp32 [1, 3, H, W], clamped to [-1, 1].

    The result is `state.picture` itself. One sum decides, on the device: NaN and infinity survive addition.
    """
    good = torch.isfinite(image.sum())
    held = torch.lerp(source, state.picture, state.painted.float())  # 0 or 1: one of the two, exactly
    torch.where(good, image, held, out=state.picture).clamp_(-1.0, 1.0)
    state.painted.logical_or_(good)
    state.unbroken.copy_(good)
    state.held.add_(~good)
    return state.picture
