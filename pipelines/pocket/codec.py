"""Stage one: the picture codec, trained to rebuild scenes and styled scenes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from torch import Tensor

from pipelines.pocket.data import tensor

SCALES = (1, 2, 4)


def slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbours, across and down."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 of values and of slopes at three scales: the slopes keep edges sharp where plain L1 would soften them."""
    total = (made - wanted).abs().mean()
    for scale in SCALES:
        a, b = (F.avg_pool2d(made, scale), F.avg_pool2d(wanted, scale)) if scale > 1 else (made, wanted)
        total = total + 0.5 * sum((p - q).abs().mean() for p, q in zip(slopes(a), slopes(b), strict=True))
        if scale > 1:
            total = total + 0.5 * (a - b).abs().mean()
    return total


def latent_loss(latents: Tensor) -> Tensor:
    """Pulls every channel to zero mean and unit deviation: what the noise schedule takes for granted."""
    mean = latents.mean((0, 2, 3))
    deviation = latents.std((0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean()


def loss(
    vae: AutoencoderTiny, pictures: Tensor, generator: torch.Generator, shaken: float = 0.25
) -> tuple[Tensor, Tensor]:
    """(loss, mean squared error) of one batch, (n, 3, h, w) in −1..1. Half of the latents are shaken by up to `shaken`,
    so that the decoder forgives what the denoiser gets slightly wrong."""
    latents = vae.encode(pictures).latents
    n = latents.shape[0]
    shake = shaken * torch.rand((n, 1, 1, 1), generator=generator).to(latents)
    shake[n // 2 :] = 0
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    made = vae.decode(latents + shake * noise).sample
    total = picture_loss(made, pictures) + 3 * F.mse_loss(made, pictures) + 0.1 * latent_loss(latents)
    return total, (made[n // 2 :] - pictures[n // 2 :]).detach().square().mean()


def crop(pictures: NDArray[np.uint8], batch: int, side: int, rng: np.random.Generator) -> Tensor:
    """Random crops of uint8 (n, h, w, 3) as (batch, 3, side, side) in −1..1, at multiples of 8 px: the styles' grids
    then always lie the same way on the latents, as they do in use, and cost the codec no room."""
    n, h, w = pictures.shape[:3]
    rows = rng.integers(n, size=batch)
    tops, lefts = (8 * rng.integers((extent - side) // 8 + 1, size=batch) for extent in (h, w))
    return tensor(
        np.stack([pictures[r, y : y + side, x : x + side] for r, y, x in zip(rows, tops, lefts, strict=True)])
    )
