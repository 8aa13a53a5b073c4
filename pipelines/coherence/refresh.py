"""Motion-gated refresh: where the input stands still, what is shown keeps the pixels that it has.

Judged in blocks, each against the input that it was painted from, so that a slow drift adds up until it is seen. A
block that moves goes on being painted until it is quiet (hysteresis: a camera's grain flips nothing), with its
neighbours, as the edge of what moves lies in them. After `longest` frames a block is painted anew whatever the input
does, not all of them in the same frame.

Where a part of the picture alone is painted, the same is decided of that part's blocks (`part`); which part has to be,
the host decides (pipelines.windows).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.coherence.feedback import blend
from pipelines.coherence.place import cut_out, put_back
from pipelines.kernels import kernel

BLOCK, CELL = 16, 4
"""Pixels along a side: of what is kept or painted, and of the parts in which change is measured. A picture has whole
ones, being a multiple of 64."""
QUIET = 0.5
"""A block that moves comes to rest below this part of the threshold."""
MARGIN = 16
"""Pixels along the edges of a part that are painted for the sake of those within, and not shown: what lies beyond is
missing in them."""
RENEWED = 0.75
"""Where parts are painted, whole pictures come each quarter of `longest`: they renew what is as old as this part of it.
"""
EARLY = 0.5
"""The first time after it moved a block may be due this part of `longest` early, so that neighbours part."""


class Refresh:
    """A stream's past, written in place. Capturable."""

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        """`size`: (height, width) of the picture."""
        rows, columns = size[0] // BLOCK, size[1] // BLOCK

        def picture() -> Tensor:
            return torch.zeros(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)

        self.shown = picture()
        """What was shown last, [1, 3, H, W]."""
        self.seen = picture()
        """The input that each block of it was painted from."""
        self.moving = torch.zeros(1, 1, rows, columns, dtype=torch.bool, device=device)
        self.age = torch.zeros(1, 1, rows, columns, device=device)
        """Frames since each block was painted."""
        self.known = torch.zeros((), dtype=torch.bool, device=device)
        """Whether there is anything to keep."""
        number = torch.arange(rows * columns, dtype=torch.float64).view(1, 1, rows, columns)
        self._part = torch.remainder(number * 0.6180339887, 1.0).to(device=device, dtype=torch.float32) * EARLY
        """The golden ratio's multiples lie evenly, and neighbours far apart."""

    def __call__(self, image: Tensor, source: Tensor, known: Tensor, threshold: Tensor, longest: Tensor) -> Tensor:
        """What is shown of `image`, painted from `source`; [1, 3, H, W] in [-1, 1] each.

        known: whether the past is of this scene, 0-dim bool. threshold: levels of 255, 0-dim. longest: frames, 0-dim.
        Bit-equal to `image` where it is painted, and to what was shown where it is kept, but for the feather.
        """
        known = self.known & known
        moving, moved = _moved(source, self.seen, self.moving, threshold)
        moved = moved | ~known
        painted = moved | (self.age >= longest)
        shown = blend(image, self.shown, 1.0 - _weight(painted, image))
        self.seen.copy_(torch.where(_pixels(painted), source, self.seen))
        self.age.copy_(torch.where(moved, self._part * longest, torch.where(painted, 0.0, self.age + 1.0)))
        self.moving.copy_(moving)
        self.known.fill_(True)
        self.shown.copy_(shown)
        return shown

    def part(
        self, image: Tensor, source: Tensor, good: Tensor, at: Tensor, threshold: Tensor, longest: Tensor
    ) -> Tensor:
        """What is shown, all of it, [1, 3, H, W], once `image` has been painted of the part from `at` on (y and x in
        pixels, [2]), from `source`; [1, 3, h, w] both. good: whether it is to be shown at all, 0-dim bool.

        There must be a past of this scene. Blocks less than MARGIN from the part's edges, which are not the picture's,
        stay as they are.
        """
        now = image, source, good, at, threshold, longest, self._part
        _renew(*now, self.shown, self.seen, self.moving, self.age)
        return self.shown

    def forget(self) -> None:
        """The next picture is shown as it is."""
        self.known.fill_(False)


def _renew_everywhere(
    image: Tensor, source: Tensor, good: Tensor, at: Tensor, threshold: Tensor, longest: Tensor, early: Tensor,
    shown: Tensor, seen: Tensor, moving: Tensor, age: Tensor,
) -> None:  # fmt: skip
    size, blocks, corner = image.shape[2:], (image.shape[2] // BLOCK, image.shape[3] // BLOCK), at / BLOCK
    old, base = (cut_out(whole, at, *size) for whole in (shown, seen))
    was, ages, part = (cut_out(whole, corner, *blocks) for whole in (moving, age, early))
    now, moved = _moved(source, base, was, threshold)
    painted = (moved | (ages >= longest)) & _within(at, size, shown.shape[2:]) & good
    age.add_(1.0)
    image = torch.where(good, image, old)
    for whole, new, to in (
        (shown, blend(image, old, 1.0 - _weight(painted, image)), at),
        (seen, torch.where(_pixels(painted), source, base), at),
        (age, torch.where(moved & painted, part * longest, torch.where(painted, 0.0, ages + 1.0)), corner),
        (moving, now, corner),
    ):
        put_back(whole, new, to)


def _renew_on_processor(
    image: Tensor, source: Tensor, good: Tensor, at: Tensor, threshold: Tensor, longest: Tensor, early: Tensor,
    shown: Tensor, seen: Tensor, moving: Tensor, age: Tensor,
) -> None:  # fmt: skip
    """Of the pixels only those around what is painted are touched."""
    (y, x), (height, width) = (int(number) for number in at.tolist()), image.shape[2:]
    old, base = (whole[:, :, y : y + height, x : x + width] for whole in (shown, seen))
    top, left, rows, columns = (number // BLOCK for number in (y, x, height, width))
    was, ages, part = (whole[:, :, top : top + rows, left : left + columns] for whole in (moving, age, early))
    now, moved = _moved(source, base, was, threshold)
    painted = (moved | (ages >= longest)) & _within(at, image.shape[2:], shown.shape[2:]) & good
    age.add_(1.0)
    ages.copy_(torch.where(painted, torch.where(moved, part * longest, 0.0), ages))
    was.copy_(now)
    places = painted[0, 0].nonzero()
    if len(places):
        low, high = ((places.amin(0) - 1).clamp(min=0)).tolist(), (places.amax(0) + 2).tolist()
        painted = painted[:, :, low[0] : high[0], low[1] : high[1]]
        there = ..., slice(low[0] * BLOCK, high[0] * BLOCK), slice(low[1] * BLOCK, high[1] * BLOCK)
        new = blend(image[there], old[there], 1.0 - _weight(painted, image[there]))
        old[there] = new
        base[there] = torch.where(_pixels(painted), source[there], base[there])


_renew = kernel(
    "renew(Tensor image, Tensor source, Tensor good, Tensor at, Tensor threshold, Tensor longest, Tensor early,"
    " Tensor(a!) shown, Tensor(b!) seen, Tensor(c!) moving, Tensor(d!) age) -> ()",
    _renew_everywhere,
    _renew_on_processor,
)


def _within(at: Tensor, size: Sequence[int], whole: Sequence[int]) -> Tensor:
    """Of a part of that size: which of its blocks are far enough from its edges, bool [rows, columns]."""
    lines = []
    for first, side, all_of_it in zip(at.unbind(), size, whole, strict=True):
        begin = torch.arange(0, side, BLOCK, device=at.device)
        low = (begin >= MARGIN) | (first == 0.0)
        lines.append(low & ((begin + BLOCK <= side - MARGIN) | (first + side == all_of_it)))
    return lines[0][:, None] & lines[1]


def _moved(source: Tensor, seen: Tensor, moving: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Which blocks move, and those with their neighbours; bool [1, 1, rows, columns]."""
    cells = F.avg_pool2d((source - seen).abs().mean(1, keepdim=True), CELL)
    now = F.max_pool2d(cells, BLOCK // CELL) * 127.5 > threshold * torch.where(moving, QUIET, 1.0)
    return now, F.max_pool2d(now.float(), 3, stride=1, padding=1) > 0.0


def _weight(painted: Tensor, image: Tensor) -> Tensor:
    """Of `image`, [1, 1, h, w]: whole within a block, and a feather of half a block around it."""
    around = F.interpolate(painted.float(), (image.shape[-2], image.shape[-1]), mode="bilinear")
    return (2.0 * around).clamp(max=1.0)


def _pixels(blocks: Tensor) -> Tensor:
    return F.interpolate(blocks.float(), scale_factor=float(BLOCK), mode="nearest") > 0.0
