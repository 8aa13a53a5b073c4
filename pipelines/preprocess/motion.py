"""The flow that a frame uses: each device's own way to the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipelines.kernels import kernel
from pipelines.preprocess import flow_numpy
from pipelines.preprocess.filters import luma
from pipelines.preprocess.flow import flow, reduced, resized


def motion(previous: Tensor, current: Tensor) -> Tensor:
    """Backward flow between two [1, 3, H, W] in 0..1: fp32 [1, 2, H, W], x then y, in pixels.

    What is at p in `current` was at p + motion[p] in `previous`. See pipelines.preprocess.flow.
    """
    found: Tensor = _motion(previous, current)
    return found


def _on_processor(previous: Tensor, current: Tensor) -> Tensor:
    pair = reduced(luma(torch.cat([previous, current]).float()))
    found = flow_numpy.estimate(pair[0, 0].numpy(), pair[1, 0].numpy())
    planes = torch.from_numpy(np.ascontiguousarray(found.transpose(2, 0, 1)))[None]
    return resized(planes, pair.shape[2:], (current.shape[2], current.shape[3]))


_motion = kernel("motion(Tensor previous, Tensor current) -> Tensor", flow, _on_processor)
