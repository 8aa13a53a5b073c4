"""Few-step samplers, each a pure function from a noised latent to a clean one.

`model(x, i)` gives (x0, eps), the clean latent and the noise that the network sees in x at step i, guidance included.
`levels` holds each step's coefficients (see pipelines/schedule.py), as numbers or as 0-dim tensors on the device.
`noise[0]` made x; `noise[i + 1]` is fresh for step i. Everything here is fp32, [1, C, h, w], and capturable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pipelines.schedule import Levels, Prediction, SamplerName

Model = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Sampler = Callable[[Model, Tensor, Levels, Sequence[Tensor]], Tensor]


def turbo(model: Model, x: Tensor, levels: Levels, noise: Sequence[Tensor]) -> Tensor:
    """Euler's steps down dx/dsigma = eps (Karras et al. 2022, algorithm 1, no churn), variance preserving."""
    for i in range(len(levels.t)):
        x0, eps = model(x, i)
        x = levels.next_alpha[i] * x0 + levels.next_sigma[i] * eps
    return x


def lcm(model: Model, x: Tensor, levels: Levels, noise: Sequence[Tensor]) -> Tensor:
    """Multistep consistency sampling: Luo et al. 2023 (Latent Consistency Models), algorithm 3."""
    for i in range(len(levels.t)):
        if i > 0:
            x = levels.alpha[i] * x + levels.sigma[i] * noise[i]
        x0, _ = model(x, i)
        x = levels.c_skip[i] * x + levels.c_out[i] * x0
    return x


def tcd(model: Model, x: Tensor, levels: Levels, noise: Sequence[Tensor]) -> Tensor:
    """Strategic stochastic sampling: Zheng et al. 2024 (Trajectory Consistency Distillation), algorithm 4."""
    last = len(levels.t) - 1
    for i in range(last + 1):
        x0, eps = model(x, i)
        x = levels.s_alpha[i] * x0 + levels.s_sigma[i] * eps
        if i < last:
            x = levels.keep[i] * x + levels.fresh[i] * noise[i + 1]
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


def split(out: Tensor, x: Tensor, alpha: Any, sigma: Any, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """(x0, eps) out of what the network says about x = alpha x0 + sigma eps."""
    if prediction == "epsilon":
        return (x - sigma * out) / alpha, out
    if prediction == "v_prediction":
        return alpha * x - sigma * out, alpha * out + sigma * x
    return out, (x - alpha * out) / sigma
