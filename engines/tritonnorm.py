"""Group normalisation with what stands around it in a denoiser's residual blocks, as kernels for NVIDIA's cards.

    y = act((norm(x + shift) * weight + bias) * (1 + scale) + after)

in fp16, bf16 or fp32, channels last in memory, statistics in fp32. `shift` moves each channel's mean and nothing else,
so that the sum is never formed; all the rest is one product and one sum for each channel of a picture. Three kernels:
means and squared deviations of pieces of a channel, their merging for each group as in Chan, Golub and LeVeque 1983,
then the picture, which is all that is read twice.

Imports triton: `engines.groupnorm` asks for it where it is there. Triton reads a kernel's annotations, so that there
are none but its own.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS, CHANNELS = 64, 64
"""A piece: so many pixels of so many channels."""


@triton.jit
def _pieces(x, found, pixels, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """x [N, pixels, channels] to [N, pieces, 2, channels]: the mean of each piece, and the sum of squares around it."""
    picture, piece, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, column = piece * ROWS + tl.arange(0, ROWS), block * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < pixels)[:, None] & (column < channels)[None, :]
    at = (picture.to(tl.int64) * pixels + row[:, None]) * channels + column[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    count = tl.minimum(ROWS, pixels - piece * ROWS).to(tl.float32)
    mean = tl.sum(values, 0) / count
    away = tl.where(inside, values - mean[None, :], 0.0)
    to = (picture * tl.num_programs(1) + piece) * 2 * channels + column
    tl.store(found + to, mean, mask=column < channels)
    tl.store(found + to + channels, tl.sum(away * away, 0), mask=column < channels)


@triton.jit
def _groups(
    found, lines, weight, bias, shift, scale, after, rows,
    pixels, channels, each, eps, pieces: tl.constexpr,
    SHIFTS: tl.constexpr, SCALES: tl.constexpr, ROWS: tl.constexpr, MANY: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Pieces to [N, 2, channels]: what a pixel is multiplied by, what is added then. `each`: channels of a group."""
    picture, group = tl.program_id(0), tl.program_id(1)
    part = tl.arange(0, WIDTH)
    column = group * each + part
    mine = part < each
    side = picture * rows + column  # rows: 0 where all pictures have the same numbers
    moved = tl.zeros((WIDTH,), tl.float32)
    if SHIFTS:
        moved = tl.load(shift + side, mask=mine, other=0.0).to(tl.float32)
    total = tl.zeros((MANY, WIDTH), tl.float32)
    for first in range(0, pieces, MANY):
        piece = first + tl.arange(0, MANY)
        here = (piece < pieces)[:, None] & mine[None, :]
        at = (picture * pieces + piece[:, None]) * 2 * channels + column[None, :]
        count = tl.minimum(ROWS, pixels - piece * ROWS).to(tl.float32)[:, None]
        total += tl.where(here, (tl.load(found + at, mask=here, other=0.0) + moved[None, :]) * count, 0.0)
    size = (pixels * each).to(tl.float32)
    mean = tl.sum(total) / size
    spread = tl.zeros((MANY, WIDTH), tl.float32)
    for first in range(0, pieces, MANY):
        piece = first + tl.arange(0, MANY)
        here = (piece < pieces)[:, None] & mine[None, :]
        at = (picture * pieces + piece[:, None]) * 2 * channels + column[None, :]
        count = tl.minimum(ROWS, pixels - piece * ROWS).to(tl.float32)[:, None]
        away = tl.load(found + at, mask=here, other=0.0) + moved[None, :] - mean
        inner = tl.load(found + at + channels, mask=here, other=0.0)
        spread += tl.where(here, inner + away * away * count, 0.0)
    slope = tl.load(weight + column, mask=mine, other=0.0).to(tl.float32) / tl.sqrt(tl.sum(spread) / size + eps)
    start = tl.load(bias + column, mask=mine, other=0.0).to(tl.float32) + (moved - mean) * slope
    if SCALES:
        more = 1.0 + tl.load(scale + side, mask=mine, other=0.0).to(tl.float32)
        slope, start = slope * more, start * more + tl.load(after + side, mask=mine, other=0.0).to(tl.float32)
    to = picture * 2 * channels + column
    tl.store(lines + to, slope, mask=mine)
    tl.store(lines + to + channels, start, mask=mine)


@triton.jit
def _picture(
    x, y, lines, pixels, channels,
    ACTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Every pixel along its channel's line, and through SiLU."""
    picture, piece, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, column = piece * ROWS + tl.arange(0, ROWS), block * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < pixels)[:, None] & (column < channels)[None, :]
    at = (picture.to(tl.int64) * pixels + row[:, None]) * channels + column[None, :]
    line = picture * 2 * channels + column
    slope = tl.load(lines + line, mask=column < channels, other=0.0)
    start = tl.load(lines + line + channels, mask=column < channels, other=0.0)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * slope[None, :] + start[None, :]
    if ACTS:
        value = value / (1.0 + tl.exp(-value))
    tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


def run(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, act: bool,
    shift: Tensor | None = None, scale: Tensor | None = None, after: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """x [N, C, H, W], channels last in memory; the small ones [N or 1, C], `scale` and `after` both or neither. To the
    same as x."""
    count, channels, height, width = x.shape
    pixels, each = height * width, channels // groups
    pieces, blocks = triton.cdiv(pixels, PIXELS), triton.cdiv(channels, CHANNELS)
    found = torch.empty(count, pieces, 2, channels, dtype=torch.float32, device=x.device)
    lines = torch.empty(count, 2, channels, dtype=torch.float32, device=x.device)
    y = torch.empty_like(x)
    sides = [side.expand(count, -1).contiguous() for side in (shift, scale, after) if side is not None]
    shifts = [sides[0] if shift is not None else weight, *(sides[-2:] if scale is not None else (weight, weight))]
    _pieces[count, pieces, blocks](x, found, pixels, channels, PIXELS, CHANNELS)
    _groups[count, groups](
        found, lines, weight, bias, *shifts, channels, pixels, channels, each, eps, pieces,
        shift is not None, scale is not None, PIXELS, 16, triton.next_power_of_2(each),
    )  # fmt: skip
    _picture[count, pieces, blocks](x, y, lines, pixels, channels, act, PIXELS, CHANNELS)
    return y
