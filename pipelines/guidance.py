"""Classifier-free guidance, real and estimated: what turns a UNet into the `model` that a sampler asks."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.control import Denoise
from pipelines.knobs import Knobs
from pipelines.sampling import Model, split


def guided(unet: Denoise, x0: Tensor, knobs: Knobs) -> Model:
    """The denoiser of one frame. `x0` [1, C, h, w] is the clean latent that the frame started from (zeros: none)."""
    make = {"off": _unguided, "full": _full, "self": _residual, "onetime": _residual}[knobs.mode.guidance]
    return make(unet, x0, knobs)


def _unguided(unet: Denoise, x0: Tensor, knobs: Knobs) -> Model:
    levels = knobs.levels

    def model(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        out = unet(x, i, knobs.positive, knobs.guidance)
        return split(out, x, levels.alpha[i], levels.sigma[i], knobs.prediction)

    return model


def _full(unet: Denoise, x0: Tensor, knobs: Knobs) -> Model:
    """Ho and Salimans 2022: both prompts in one batch of two."""
    levels = knobs.levels

    def model(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        without, given = unet(x.expand(2, -1, -1, -1), i, knobs.both).chunk(2)
        out = torch.lerp(without, given, knobs.guidance)
        return split(out, x, levels.alpha[i], levels.sigma[i], knobs.prediction)

    return model


def _residual(unet: Denoise, x0: Tensor, knobs: Knobs) -> Model:
    """Residual CFG: Kodaira et al. 2023 (StreamDiffusion), section 3.2.

    The unguided noise is not computed but read off: it is what leads from x back to a known clean latent. That latent
    is the input's own (self: no extra network run), or what the negative prompt saw at the first step (onetime: one).
    """
    levels, onetime, clean = knobs.levels, knobs.mode.guidance == "onetime", x0

    def model(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        nonlocal clean
        alpha, sigma = levels.alpha[i], levels.sigma[i]
        if onetime and i == 0:
            without, given = unet(x.expand(2, -1, -1, -1), i, knobs.both).chunk(2)
            clean, eps_r = split(without, x, alpha, sigma, knobs.prediction)
        else:
            given = unet(x, i, knobs.positive)
            eps_r = (x - alpha * clean) / sigma
        _, eps_c = split(given, x, alpha, sigma, knobs.prediction)
        eps = torch.lerp(knobs.delta * eps_r, eps_c, knobs.guidance)
        return (x - sigma * eps) / alpha, eps

    return model
