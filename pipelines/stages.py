"""Where a frame is cut, so that successive frames run beside each other on a card: enter, walk, leave.

`step` calls a `Hand` twice. Whoever paints a frame in one go lets it give back what it got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Hand = Callable[..., Sequence[Tensor]]
"""(tensors of this stage) to the same as the next stage may use them."""
STAGES = ("enter", "walk", "leave")
"""Upload, fit and encode; hints, ControlNets and the denoiser; decode, guard and download."""


def at_once(*tensors: Tensor) -> Sequence[Tensor]:
    """No stages."""
    return tensors
