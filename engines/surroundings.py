"""A part of a picture in the light of the whole: what a denoiser's group normalisations found in a whole picture is
kept, and used where a part is painted alone. After SIGE (Li et al. 2022, spatially sparse inference).

Convolutions see a few pixels around each; a normalisation sees the mean and the deviation of all, which are others in a
part, and give it another style. With the whole picture's own, a part is what the whole picture has there, but for its
edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engines.given import Around


class Held:
    """What the normalisations of one denoiser are given, for as long as it runs."""

    def __init__(self) -> None:
        self.now: Around | None = None
        self.numbers = 0
        """That are kept for each picture of a batch."""
        self._found: dict[int, Tensor] = {}

    @contextmanager
    def around(self, around: Around | None) -> Iterator[None]:
        """Inside, the denoiser runs with that; what it finds in a whole picture is left there."""
        self.now = around
        try:
            yield
        finally:
            self.now = None
        if around is not None and around.fresh:
            around.kept.copy_(self.take())

    def hear(self, first: int, numbers: Tensor) -> None:
        """What a normalisation found, [B, ...], goes from the number `first` on."""
        self._found[first] = numbers

    def take(self) -> Tensor:
        """What all of them found, fp32 [B, numbers]."""
        found, self._found = self._found, {}
        return torch.cat([found[first] for first in sorted(found)], 1)


class Surrounded(nn.GroupNorm):
    """In place of a GroupNorm: gives its own picture's statistics away, or normalises by others."""

    held: Held
    first: int

    def forward(self, input: Tensor) -> Tensor:
        around = self.held.now
        if around is None:
            return super().forward(input)
        if around.fresh:
            self.held.hear(self.first, found(input, self))
            return super().forward(input)
        return normed(input, around.kept[:, self.first : self.first + 2 * self.num_groups], self)


def found(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """What it finds in x [B, C, ...], fp32 [B, 2 groups]: means, then reciprocal deviations.

    Of each channel first, which lie side by side in memory; a group's variance is the mean of theirs, and that of their
    means.
    """
    inside, means = torch.var_mean(x.float().flatten(2), 2, correction=0)
    inside, means = (each.view(len(x), norm.num_groups, -1) for each in (inside, means))
    between, mean = torch.var_mean(means, 2, correction=0)
    return torch.cat([mean, torch.rsqrt(inside.mean(2) + between + norm.eps)], 1)


def normed(x: Tensor, kept: Tensor, norm: nn.GroupNorm) -> Tensor:
    """x [B, C, ...] by `kept`, fp32 [B, 2 groups], means and then reciprocal deviations: one product, one sum."""
    each = kept.view(len(kept), 2, norm.num_groups, 1).expand(-1, -1, -1, norm.num_channels // norm.num_groups)
    mean, scale = each.reshape(len(kept), 2, norm.num_channels).unbind(1)
    scale = scale * norm.weight
    shape = (*scale.shape, *(1,) * (x.dim() - 2))
    after = torch.addcmul(norm.bias.float(), mean, scale, value=-1.0)
    return torch.addcmul(after.view(shape).to(x.dtype), x, scale.view(shape).to(x.dtype))


def release(net: Any) -> None:
    """Undo it."""
    for norm in [part for part in net.modules() if type(part) is Surrounded]:
        norm.__class__ = nn.GroupNorm  # type: ignore[assignment]


def surround(net: Any) -> Held:
    """Have the normalisations of a UNet2DConditionModel or a ControlNetModel be given what they use. They keep their
    names and weights."""
    held = Held()
    for norm in [part for part in net.modules() if type(part) is nn.GroupNorm and part.affine]:
        norm.__class__ = Surrounded
        norm.__dict__.update(held=held, first=held.numbers)
        held.numbers += 2 * norm.num_groups
    return held
