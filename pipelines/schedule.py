"""Noise levels: which timesteps a sampler visits, and how much picture and how much noise there is at each.

A noised latent is x = alpha x0 + sigma eps with alpha = sqrt(abar(t)), sigma = sqrt(1 - abar(t)). Timesteps are real
numbers in [0, T - 1]: between two trained ones log(sigma / alpha) is interpolated linearly, as k-diffusion does.
Strength s scales a sampler's whole walk, t = s tau, so that it is continuous however few steps there are; at s = 1 the
walk is the one that diffusers' scheduler of that name takes. Plain numbers throughout: this runs on the host, when a
parameter changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError

SamplerName = Literal["lcm", "turbo", "tcd", "ddim"]
Prediction = Literal["epsilon", "v_prediction", "sample"]
MAX_STEPS = 8

CLEAN = (1.0, 0.0)
"""alpha and sigma of a latent without noise."""
MIN_ABAR = 2.0**-24
"""Stands in for abar = 0 at the end of a zero-terminal-SNR schedule, as in diffusers' Euler scheduler."""


class Levels(NamedTuple):
    """What a sampler needs at step i, row by row: numbers on the host, 0-dim tensors on the device."""

    t: Sequence[Any]
    """What the network is told."""
    alpha: Sequence[Any]
    sigma: Sequence[Any]
    """Level before the step: x = alpha x0 + sigma eps."""
    next_alpha: Sequence[Any]
    next_sigma: Sequence[Any]
    """Level after it."""
    c_skip: Sequence[Any]
    c_out: Sequence[Any]
    """lcm: boundary condition of the consistency function."""
    s_alpha: Sequence[Any]
    s_sigma: Sequence[Any]
    """tcd: the level between, s = (1 - gamma) t'. ddim: s_sigma is the deterministic part of the next sigma."""
    keep: Sequence[Any]
    fresh: Sequence[Any]
    """tcd and ddim: share of the old latent kept, and amount of fresh noise added."""


@dataclass(frozen=True)
class NoiseSchedule:
    """A model's own noise schedule, from its scheduler_config.json."""

    log_sigma: NDArray[np.float64]
    """(T,) log(sigma / alpha) at the trained timesteps."""
    prediction: Prediction
    """What the network says: the noise, v = alpha eps - sigma x0, or the clean latent itself."""
    final: tuple[float, float]
    """alpha, sigma where ddim ends."""
    origin_steps: int
    """Length of the schedule that lcm and tcd were distilled on."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Raises ModelError for a schedule or prediction type that we do not know."""
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise ModelError(
                f"the model's scheduler has prediction_type {prediction!r}, which livelatent does not know"
            )
        abar = np.cumprod(1.0 - _betas(config))
        abar[abar <= 0.0] = MIN_ABAR
        log_sigma = 0.5 * np.log((1.0 - abar) / abar)
        end = CLEAN if config.get("set_alpha_to_one", True) else (math.sqrt(abar[0]), math.sqrt(1.0 - abar[0]))
        return cls(log_sigma, prediction, end, int(config.get("original_inference_steps", 50)))

    @property
    def last(self) -> int:
        """T - 1, the timestep of pure noise."""
        return len(self.log_sigma) - 1

    def level(self, t: float) -> tuple[float, float]:
        """(alpha, sigma) at the real timestep t, 0 ≤ t ≤ T - 1."""
        low = min(int(t), len(self.log_sigma) - 2)
        a, b = self.log_sigma[low], self.log_sigma[low + 1]
        ratio = math.exp(a + (t - low) * (b - a))
        alpha = 1.0 / math.sqrt(1.0 + ratio * ratio)
        return alpha, ratio * alpha

    def timesteps(self, sampler: SamplerName, steps: int) -> list[int]:
        """The walk at strength 1. turbo and ddim: trailing (Lin et al. 2023); lcm, tcd: out of the distilled steps."""
        trained = len(self.log_sigma)
        if sampler in ("turbo", "ddim"):
            return [int(t) - 1 for t in np.round(np.arange(trained, 0, -trained / steps))]
        origin = np.arange(self.origin_steps, 0, -1) * (trained // self.origin_steps) - 1
        return [int(origin[i]) for i in np.floor(np.linspace(0, len(origin), steps, endpoint=False)).astype(int)]

    def levels(self, sampler: SamplerName, steps: int, strength: float, eta: float) -> Levels:
        """Rows of `steps` numbers for one walk. `eta` is tcd's gamma and ddim's eta."""
        walk = self.timesteps(sampler, steps)
        now = [self.level(strength * tau) for tau in walk]
        rows = [
            (strength * tau, *a, *b, *_consistency(strength * tau), *self._between(sampler, a, b, v, eta))
            for tau, a, (b, v) in zip(walk, now, self._after(sampler, walk, strength), strict=True)
        ]
        return Levels(*(list(row) for row in zip(*rows, strict=True)))

    def _after(self, sampler: SamplerName, walk: list[int], strength: float) -> list[tuple[tuple[float, float], float]]:
        """The level after each step, and its timestep (0 for the end)."""
        if sampler == "ddim":
            stride = len(self.log_sigma) // len(walk)
            ahead = [strength * (tau - stride) for tau in walk if tau >= stride]
            return [(self.level(t), t) for t in ahead] + [(self.final, 0.0)] * (len(walk) - len(ahead))
        end = (self.level(0.0), 0.0) if sampler == "tcd" else (CLEAN, 0.0)
        return [(self.level(strength * tau), strength * tau) for tau in walk[1:]] + [end]

    def _between(
        self, sampler: SamplerName, now: tuple[float, float], after: tuple[float, float], v: float, eta: float
    ) -> tuple[float, float, float, float]:
        """(s_alpha, s_sigma, keep, fresh); see Levels."""
        if sampler == "tcd":
            s_alpha, s_sigma = self.level(math.floor((1.0 - eta) * v))
            keep = after[0] / s_alpha
            return s_alpha, s_sigma, keep, math.sqrt(max(0.0, 1.0 - keep * keep))
        variance = (after[1] / now[1]) ** 2 * (1.0 - (now[0] / after[0]) ** 2)
        fresh = eta * math.sqrt(max(0.0, variance)) if sampler == "ddim" else 0.0
        return after[0], math.sqrt(max(0.0, after[1] ** 2 - fresh**2)), 1.0, fresh


def _consistency(t: float) -> tuple[float, float]:
    """c_skip, c_out of Song et al. 2023, with LCM's timestep scaling of 10 and sigma_data of 0.5."""
    s = 10.0 * t
    return 0.25 / (s * s + 0.25), s / math.sqrt(s * s + 0.25)


def _betas(config: Mapping[str, Any]) -> NDArray[np.float64]:
    trained = config.get("trained_betas")
    betas = np.asarray(trained, np.float64) if trained is not None else _named_betas(config)
    return _zero_terminal_snr(betas) if config.get("rescale_betas_zero_snr", False) else betas


def _named_betas(config: Mapping[str, Any]) -> NDArray[np.float64]:
    count, name = int(config.get("num_train_timesteps", 1000)), config.get("beta_schedule", "linear")
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    if name == "linear":
        return np.linspace(start, end, count)
    if name == "scaled_linear":
        return np.square(np.linspace(math.sqrt(start), math.sqrt(end), count))
    if name == "squaredcos_cap_v2":
        abar = np.square(np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * math.pi / 2))
        return np.clip(1.0 - abar[1:] / abar[:-1], None, 0.999)
    raise ModelError(f"the model's scheduler has beta_schedule {name!r}, which livelatent does not know")


def _zero_terminal_snr(betas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lin et al. 2023, algorithm 1."""
    root = np.sqrt(np.cumprod(1.0 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root**2
    ratios: NDArray[np.float64] = np.concatenate([abar[:1], abar[1:] / abar[:-1]])
    return 1.0 - ratios
