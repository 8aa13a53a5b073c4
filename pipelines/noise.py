"""Noise that every machine agrees on: drawn by torch's CPU generator, whatever device paints with it."""

from __future__ import annotations

import torch
from torch import Tensor


def seeded(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """fp32 [count, *shape], drawn one after the other: more of them never changes the first."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(count)])


def slerp(a: Tensor, b: Tensor, w: float) -> Tensor:
    """From a (w = 0) to b (w = 1) along the sphere; [..., h, w].

    AUTOMATIC1111's rule for its variation seeds: each column of a channel is a vector of its own, and noises that are
    almost parallel are mixed linearly. No host sync.
    """
    dot = (_unit(a) * _unit(b)).sum(-2, keepdim=True).clamp(-1.0, 1.0)
    omega = torch.acos(dot)
    sine = torch.sin(omega)
    curved = torch.sin((1.0 - w) * omega) / sine * a + torch.sin(w * omega) / sine * b
    flat = (dot.mean(dim=(-3, -2, -1), keepdim=True) > 0.9995) | (sine == 0.0)
    return torch.where(flat, torch.lerp(a, b, w), curved)


def _unit(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-2, keepdim=True)
    return x / length


class SeedWalk:
    """The noises of a walk between two seeds; drawn when a seed changes, not per frame."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._shape, self._device = shape, device
        self._drawn: dict[tuple[int, int], Tensor] = {}

    def __call__(self, seed: int, seed2: int, mix: float, count: int) -> Tensor:
        """fp32 [count, *shape] on the device. At 0 and 1 exactly the seed's own."""
        if mix <= 0.0 or seed == seed2:
            return self._draw((seed, count))
        if mix >= 1.0:
            return self._draw((seed2, count))
        return slerp(self._draw((seed, count)), self._draw((seed2, count)), mix)

    def _draw(self, key: tuple[int, int]) -> Tensor:
        if key not in self._drawn:
            while len(self._drawn) >= 4:
                self._drawn.pop(next(iter(self._drawn)))
            self._drawn[key] = seeded(*key, self._shape).to(self._device)
        return self._drawn[key]
