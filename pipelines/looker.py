"""Pictures that become prompts, encoded beside the stream: the encoder is slow, and no frame waits for it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engines.base import ImageAdapter
from engines.cuda_machine import machine_of
from pipelines.aide import Aide


class Job(NamedTuple):
    """A picture to encode."""

    name: str
    adapter: ImageAdapter
    picture: Tensor
    """uint8 [h, w, 1 | 3 | 4] or fp32 [1, 3, H, W] in [-1, 1], on the device; nobody else writes to it."""
    at: float
    """When it was taken, in seconds."""


def looker(device: torch.device) -> Aide[Job, Tensor]:
    """Who answers with what the adapter reads of a picture: [2, adapter.size]; see engines.base.ImageAdapter."""
    return Aide(lambda job: job.adapter(as_image(job.picture)), "ll-image", machine_of(device))


def as_image(picture: Tensor) -> Tensor:
    """uint8 [h, w, 1 | 3 | 4] or fp32 [1, 3, H, W] in [-1, 1] to fp32 [1, 3, h, w] in 0..1; alpha is dropped."""
    if picture.dtype is not torch.uint8:
        return picture.mul(0.5).add_(0.5).clamp_(0.0, 1.0)
    return (picture[..., :3].permute(2, 0, 1)[None].float() / 255.0).expand(1, 3, -1, -1)
