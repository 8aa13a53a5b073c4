"""Colours held to a reference: against the drift of feedback, and to give an output its input's palette.

match.take(image, ~state.painted)           # the first picture; or a trigger's flag
match.take(source, always)                  # or the input, each frame
image = match(image, params.colour_match)
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pipelines.coherence.colour import Space, join, join8, split, split8
from pipelines.coherence.feedback import blend

Method = Literal["statistics", "histogram"]

EVERY = 2
"""Pixels and rows from one that is counted for statistics to the next."""
_FLAT = {"lab": 1.0, "hsv": 0.01, "rgb": 0.01}
"""A standard deviation below which a channel is flat, and what it has is grain, not contrast."""


def statistics(parts: Tensor, space: Space) -> Tensor:
    """Of `split` channels: [3, 2], mean and standard deviation of each. Hue has no mean, being a circle: its row is
    the mean vector, weighted by chroma, whose direction is the dominant hue and whose length, 0..1, tells how
    dominant it is."""
    flat = parts.flatten(1)
    out = torch.stack((flat.mean(dim=1), flat.std(dim=1, correction=0)), dim=1)
    if space != "hsv":
        return out
    angle, chroma = flat[0] * math.tau, flat[1] * flat[2]
    vector = torch.stack(((torch.cos(angle) * chroma).mean(), (torch.sin(angle) * chroma).mean()))
    return torch.cat(((vector / chroma.mean().clamp(min=1e-6))[None], out[1:]))


def match_statistics(image: Tensor, reference: Tensor, space: Space) -> Tensor:
    """[1, 3, H, W] with the reference's mean and standard deviation in each channel of `space`.

    Reinhard et al. 2001 (Color Transfer between Images), in CIE L*a*b* instead of their l-alpha-beta. In hsv the
    hues are turned together, as far as both pictures have a dominant one.
    """
    parts = split(image, space)
    own = statistics(parts[:, ::EVERY, ::EVERY], space)
    flat = _FLAT[space]
    gain = (reference[:, 1] + flat) / (own[:, 1] + flat)
    moved = (parts - own[:, :1, None]) * gain[:, None, None] + reference[:, :1, None]
    if space == "hsv":
        hue = torch.remainder(parts[:1] + _turn(own[0], reference[0]), 1.0)
        moved = torch.cat((hue, moved[1:].clamp(0.0, 1.0)))
    return join(moved, space)


def _turn(own: Tensor, wanted: Tensor) -> Tensor:
    """By how much to turn the hues: 0-dim, -0.5..0.5 turns."""
    angle = torch.atan2(own[0] * wanted[1] - own[1] * wanted[0], own[0] * wanted[0] + own[1] * wanted[1])
    lengths = torch.minimum(torch.linalg.vector_norm(own), torch.linalg.vector_norm(wanted))
    return angle / math.tau * lengths


def histogram(levels: Tensor) -> Tensor:
    """Of `split8` channels: how many pixels are at or below each level, int64 [3, 256]; the last is all of them."""
    flat = levels.flatten(1)
    # Sixteen interleaved counts: neighbours are often alike, and would all add to one address.
    lanes = torch.arange(flat.shape[1], device=flat.device) % 16 * 256
    counts = torch.zeros(3, 16 * 256, dtype=torch.int32, device=flat.device)
    counts.scatter_add_(1, flat + lanes, torch.ones_like(flat))
    return counts.view(3, 16, 256).sum(dim=1).cumsum(dim=1)


def match_histogram(image: Tensor, reference: Tensor, space: Space) -> Tensor:
    """[1, 3, H, W] with the reference's distribution in each 8-bit channel of `space`: what Deforum and AUTOMATIC1111
    do (scikit-image's match_histograms on OpenCV's bytes), to one level of theirs."""
    levels = split8(image, space)
    curve = torch.stack([_curve(a, b) for a, b in zip(histogram(levels), reference, strict=True)])
    flat = levels.flatten(1).to(torch.int64)
    return join8(torch.gather(curve, 1, flat).view(levels.shape), space)


def _curve(own: Tensor, wanted: Tensor) -> Tensor:
    """Which level each level becomes: the one up to which `wanted` has as large a share; int64 [256].

    Linear between two levels that the reference has, and rounded down, as the bytes of the original are; in whole
    numbers, so that no rounding error turns a level into its neighbour.
    """
    total = own[-1]
    share, scale = own * wanted[-1], wanted * total  # of one whole: own[-1] * wanted[-1]
    index = torch.arange(256, device=own.device)
    has = torch.diff(wanted, prepend=torch.zeros_like(wanted[:1])) > 0
    upper = torch.searchsorted(scale, share).clamp(max=255)
    below = torch.cummax(torch.where(has, index, -1), dim=0).values  # the last level in use up to each
    lower = torch.where(upper > 0, below[(upper - 1).clamp(min=0)], -1)
    start = scale[lower.clamp(min=0)]
    way = (scale[upper] - start).clamp(min=1)
    between = lower + torch.div((share - start) * (upper - lower), way, rounding_mode="floor")
    return torch.where(lower < 0, upper, between)


class ColourMatch:
    """A reference's colours, kept on the device; a stream's past, written in place. Capturable."""

    def __init__(self, space: Space, method: Method, device: torch.device) -> None:
        self.space, self.method = space, method
        shape, dtype = ((3, 2), torch.float32) if method == "statistics" else ((3, 256), torch.int64)
        self.reference = torch.zeros(shape, dtype=dtype, device=device)
        self.taken = torch.zeros((), dtype=torch.bool, device=device)
        """Whether there is a reference yet; until then nothing is matched."""

    def take(self, picture: Tensor, when: Tensor) -> None:
        """Make `picture`, [1, 3, H, W] in [-1, 1], the reference where `when`, 0-dim bool, says so and it is finite."""
        when = when & torch.isfinite(picture.sum())
        if self.method == "statistics":
            new = statistics(split(picture[..., ::EVERY, ::EVERY], self.space), self.space)
        else:
            new = histogram(split8(picture, self.space))
        self.reference.copy_(torch.where(when, new, self.reference))
        self.taken.logical_or_(when)

    def __call__(self, image: Tensor, amount: Tensor) -> Tensor:
        """`image`, [1, 3, H, W] in [-1, 1], brought `amount`, 0-dim, 0..1, of the way to the reference's colours. At 0
        it comes back bit-equal."""
        match = match_statistics if self.method == "statistics" else match_histogram
        return blend(image, match(image, self.reference, self.space), amount * self.taken)

    def reset(self) -> None:
        """Forget the reference."""
        self.taken.fill_(False)
