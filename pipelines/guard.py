"""Never black: a frame that is not finite is not shown, and breaks the recurrence instead of the show."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engines.base import Finished
from pipelines.kernels import kernel
from pipelines.prepare import in_numbers
from pipelines.state import StreamState


def guard(image: Tensor, source: Tensor, state: StreamState, ready: Finished | None = None) -> Tensor:
    """`image` if it is finite, else the last good one, else the fitted input; fp32 [1, 3, H, W], clamped to [-1, 1].

    One sum decides, on the device: NaN and infinity survive addition. `ready`:
    that is done already; then `source` may be uint8, 0..255, and the state's picture takes the memory of `image`.
    """
    if ready is not None and ready.good:
        state.picture.set_(ready.image)  # type: ignore[call-overload]
        for flag in (state.painted, state.unbroken):
            if not flag:
                flag.fill_(True)
        return ready.image
    if ready is not None:
        image = torch.full_like(image, math.nan)  # it is held to its range, where infinity is not seen any more
        source = in_numbers(source)
    _hold(image, source, state.picture, state.painted, state.unbroken, state.held)
    return state.picture


def _everywhere(
    image: Tensor, source: Tensor, picture: Tensor, painted: Tensor, unbroken: Tensor, held: Tensor
) -> None:
    good = torch.isfinite(image.sum())
    last = torch.lerp(source, picture, painted.float())  # 0 or 1: one of the two, exactly
    torch.where(good, image, last, out=picture).clamp_(-1.0, 1.0)
    painted.logical_or_(good)
    unbroken.copy_(good)
    held.add_(~good)


def _on_processor(
    image: Tensor, source: Tensor, picture: Tensor, painted: Tensor, unbroken: Tensor, held: Tensor
) -> None:
    good = math.isfinite(float(image.sum()))
    if good:
        torch.clamp(image, -1.0, 1.0, out=picture)
        painted.fill_(True)
    elif not bool(painted):
        torch.clamp(source, -1.0, 1.0, out=picture)
    unbroken.fill_(good)
    held.add_(not good)


_hold = kernel(
    "hold(Tensor image, Tensor source, Tensor(a!) picture, Tensor(b!) painted, Tensor(c!) unbroken, Tensor(d!) held)"
    " -> ()",
    _everywhere,
    _on_processor,
)
