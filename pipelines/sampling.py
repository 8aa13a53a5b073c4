"""Few-step samplers, each a pure function from a noised latent to a clean one.

`model(x, i)` gives (x0, eps), the clean latent and the noise that the network sees in x at step i, guidance included.
`levels` holds each step's coefficients (see pipelines/schedule.py), 0-dim tensors on the device.
`noise[0]` made x; `noise[i + 1]` is fresh for step i. Everything here is fp32, [1, C, h, w], and capturable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pipelines.schedule import Levels, Prediction, SamplerName

Model = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Sampler = Callable[[Model, Tensor, Levels, Sequence[Tensor]], Tensor]


def turbo(model: Model, x: Tensor, levels: Levels, noise: Sequence[Tensor]) -> Tensor:
    """Euler's steps down dx/dsigma = eps (Karras et al. 2022, algorithm 1, no churn), variance preserving."""
    for i in range(len(levels.t) - 1):
        x0, eps = model(x, i)
        x = noised(x0, eps, levels.next_alpha[i], levels.next_sigma[i])
    return model(x, len(levels.t) - 1)[0]  # it ends without noise


def lcm(model: Model, x: Tensor, levels: Levels, noise: Sequence[Tensor]) -> Tensor:
    """Multistep consistency sampling: Luo et al. 2023 (Latent Consistency Models), algorithm 3."""
    for i in range(len(levels.t)):
        if i > 0:
            x = noised(x, noise[i], levels.alpha[i], levels.sigma[i])
        x0, _ = model(x, i)
        x = noised(x0, x, levels.c_out[i], levels.c_skip[i])
    return x


def tcd(model: Model, x: Tensor, levels: Levels, noise: Sequence[Tensor]) -> Tensor:
    """Strategic stochastic sampling: Zheng et al. 2024 (Trajectory Consistency Distillation), algorithm 4."""
    last = len(levels.t) - 1
    for i in range(last + 1):
        x0, eps = model(x, i)
        x = noised(x0, eps, levels.s_alpha[i], levels.s_sigma[i])
        if i < last:
            x = noised(x, noise[i + 1], levels.keep[i], levels.fresh[i])
    return x


def ddim(model: Model, x: Tensor, levels: Levels, noise: Sequence[Tensor]) -> Tensor:
    """Song et al. 2021 (Denoising Diffusion Implicit Models), equation 12."""
    for i in range(len(levels.t)):
        x0, eps = model(x, i)
        x = levels.next_alpha[i] * x0 + levels.s_sigma[i] * eps + levels.fresh[i] * noise[i + 1]
    return x


SAMPLERS: Mapping[SamplerName, Sampler] = {"turbo": turbo, "lcm": lcm, "tcd": tcd, "ddim": ddim}


def draws(sampler: SamplerName, steps: int) -> int:
    """How many noises a walk needs, the first one included."""
    return {"turbo": 1, "lcm": steps, "tcd": steps, "ddim": steps + 1}[sampler]


def noised(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """alpha x0 + sigma eps, in two operations: beside a small network each costs as much as one of its layers."""
    return torch.addcmul(sigma * eps, x0, alpha)


def split(out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """(x0, eps) out of what the network says about x = alpha x0 + sigma eps."""
    if prediction == "epsilon":
        return torch.addcmul(x, out, sigma, value=-1.0) / alpha, out
    if prediction == "v_prediction":
        return alpha * x - sigma * out, alpha * out + sigma * x
    return out, (x - alpha * out) / sigma
