"""Between embeddings: straight on, or along the arc. Never waits for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.params import PromptBlend, PromptCurve

Cond = tuple[Tensor, ...]
"""Hidden states [B, L, D]; for SDXL also the pooled embedding [B, P] and the size numbers [B, 6]."""
_PARALLEL = 0.9995
"""Cosine above which an arc is as good as straight, and its formula loses digits."""


def between(a: Cond, b: Cond, w: float, way: PromptBlend = "lerp") -> Cond:
    """`a` at w = 0, `b` at w = 1."""
    mix = slerp if way == "slerp" else torch.lerp
    return tuple(mix(x, y, w) for x, y in zip(a, b, strict=True))


def slerp(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Spherical interpolation (Shoemake 1985) of each vector along the last axis; lengths change evenly."""
    long_a, long_b = (x.norm(dim=-1, keepdim=True).clamp_min(1e-12) for x in (a, b))
    unit_a, unit_b = a / long_a, b / long_b
    cosine = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1.0, 1.0)
    angle = torch.acos(cosine.clamp(-_PARALLEL, _PARALLEL))
    arc = (torch.sin((1.0 - w) * angle) * unit_a + torch.sin(w * angle) * unit_b) / torch.sin(angle)
    return torch.where(cosine.abs() > _PARALLEL, torch.lerp(a, b, w), arc * torch.lerp(long_a, long_b, w))


def blend(parts: Sequence[tuple[Cond, float]], way: PromptBlend = "lerp") -> Cond:
    """All of them, weighted, weights above 0: one after the other, each by its share of what came before and it.

    Weights that do not add up to 1 scale the hidden states, as in Deforum without normalisation; nothing else.
    """
    (out, total), *rest = parts
    for cond, weight in rest:
        total += weight
        out = between(out, cond, weight / total, way)
    return out if abs(total - 1.0) < 1e-6 else (out[0] * total, *out[1:])


def eased(w: float, curve: PromptCurve) -> float:
    """Where a fade is after the share `w` of its time."""
    return w * w * (3.0 - 2.0 * w) if curve == "ease" else w
