"""The flow that a frame uses, as one operation to whoever records or counts them: its device's own implementation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipelines.preprocess import flow_numpy
from pipelines.preprocess.filters import luma
from pipelines.preprocess.flow import flow, reduced, resized


@torch.library.custom_op("livelatent::motion", mutates_args=())
def motion(previous: Tensor, current: Tensor) -> Tensor:
    """Backward flow between two [1, 3, H, W] in 0..1: fp32 [1, 2, H, W], x then y, in pixels.

    What is at p in `current` was at p + motion[p] in `previous`. See pipelines.preprocess.flow.
    """
    return flow(previous, current)


@motion.register_kernel("cpu")
def _on_processor(previous: Tensor, current: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():  # one operation, even where bringing data to the host is refused
        pair = reduced(luma(torch.cat([previous, current]).float()))
        found = flow_numpy.estimate(pair[0, 0].numpy(), pair[1, 0].numpy())
        planes = torch.from_numpy(np.ascontiguousarray(found.transpose(2, 0, 1)))[None]
        return resized(planes, pair.shape[2:], (current.shape[2], current.shape[3]))


@motion.register_fake
def _like(previous: Tensor, current: Tensor) -> Tensor:
    del previous
    return current.new_empty((1, 2, *current.shape[2:]), dtype=torch.float32)
