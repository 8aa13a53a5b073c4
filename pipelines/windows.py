"""How much of the picture the next frame paints: where the input moves in a part of it alone, that part, a window.

The host decides it from the pixels before they are uploaded, and it is part of the frame's `Mode`; where it lies is a
number. Windows have a few sizes, so that a captured frame has a few forms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from engines.base import Nets
from engines.fit import Box
from engines.window import numbers_of
from pipelines.coherence.blocks import Fitted, HostBlocks
from pipelines.coherence.refresh import BLOCK, MARGIN
from pipelines.knobs import Mode
from pipelines.params import Params
from pipelines.rest import Settled
from pipelines.reuse import told
from pipelines.transfer import Pixels
from pipelines.units import UnitMode

FEW = (
    *((0.625, 0.375), (0.375, 0.625), (0.5, 0.5), (0.75, 0.5), (0.5, 0.75)),
    *((1.0, 0.5), (0.5, 1.0), (0.75, 0.75)),
)
_SIDES = 0.25, 0.375, 0.5, 0.625, 0.75, 1.0
MANY = tuple(sorted(product(_SIDES, _SIDES), key=lambda share: share[0] * share[1]))[:-1]
"""Shares of the picture's height and width, the smallest first: where each size is recorded or compiled, and else."""
TURN = 0.25
"""After this part of `refresh_max_age` a whole picture is painted, which renews what is old, and what parts need."""
LONGEST = 250
"""Frames; so at the latest."""
WHOLE = "refresh_threshold saves no work: these networks paint whole pictures alone"
SOME = "refresh_threshold saves less work than it could"
SMOOTH = 0.1
"""Of a new frame in the mean share of what is painted."""


class Windows:
    """One stream's plan, made frame by frame."""

    def __init__(self) -> None:
        self.corner = (0, 0)
        """Where the next frame's window begins, y and x in pixels."""
        self.note = ""
        """Why more is painted than would have to be, a sentence, or nothing."""
        self.share = 1.0
        """How much of the picture is painted, a mean over some frames."""
        self.waits = True
        """Whether a frame may wait for networks of a size: where pictures are to be the same each time."""
        self.taken = 0
        """Frames of which a part was painted since the stream was made."""
        self._blocks, self._settled = HostBlocks(), Settled()
        self._age: int | None = None
        """Frames since a whole picture left behind what its parts need; None where none did."""
        self._size = (0, 0)

    def planned(self, mode: Mode, pixels: Pixels, params: Params, nets: Nets, *others: object) -> Mode:
        """`mode` with the window that the next frame paints, whose input is uint8 (h, w, 1 | 3 | 4). `others`: what
        decides the picture besides that; all of it is painted when any of that moved."""
        if not mode.temporal.refresh or nets.window is None or not possible(mode, params, nets):
            self.note = WHOLE if mode.temporal.refresh and nets.window is None else ""
            self.share = 1.0
            self.forget()
            return mode
        window = self._window(mode, pixels, params, nets, *others)
        self.share += SMOOTH * (_share(window, mode) - self.share)
        self.note = f"{SOME}: {nets.window.wrong}" if nets.window.wrong else ""
        return mode._replace(window=window)

    def _window(
        self, mode: Mode, pixels: Pixels, params: Params, nets: Nets, *others: object
    ) -> tuple[int, int] | None:
        moved = self._blocks(pixels, Fitted(mode.size, params.fit), params.refresh_threshold)
        stirred = self._settled(params, told(mode), nets.unet, *others)
        box = self._fitting(moved, mode, nets) if moved is not None and not stirred else None
        if box is None or not self._there(mode.size, nets):
            self._blocks.take()
            self._age = None
            return None
        if self._age is None or self._age + 1 >= min(params.refresh_max_age * TURN, LONGEST):
            self._blocks.take()
            self._age = 0
            return mode.size
        self._age += 1
        self.taken += 1
        self.corner, self._size = (box.y, box.x), (box.height, box.width)
        self._blocks.take(within(box, mode.size))
        return self._size

    def missed(self, mode: Mode) -> None:
        """The frame that was planned as `mode` is painted whole, in another one."""
        if mode.window == mode.size:
            self._age = None
        if mode.window is not None:
            self._blocks.take()

    def forget(self) -> None:
        """The next frame is painted whole."""
        self._blocks.forget()
        self._age = None

    def _fitting(self, moved: NDArray[np.bool_], mode: Mode, nets: Nets) -> Box | None:
        """The smallest window that shows all that moved, where the last one was, if that can be; None for none."""
        assert nets.window is not None, "there are no windows"
        ranges = [_range(moved.any(axis=axis)) for axis in (1, 0)]
        few = nets.window.fixed or nets.machine is not None
        for size in sizes(mode.size, nets.window.grid, FEW if few else MANY):
            last = self.corner if size == self._size else (None, None)
            axes = zip(mode.size, size, ranges, last, strict=True)
            y, x = (_begin(whole, side, span, nets.window.grid, at) for whole, side, span, at in axes)
            if y is not None and x is not None and self._there(size, nets):
                return Box(y, x, *size)
        return None

    def _there(self, size: tuple[int, int], nets: Nets) -> bool:
        """Whether there are networks of that size."""
        assert nets.window is not None, "there are no windows"
        if self.waits and nets.window.painters(size) is None:
            nets.window.settle()
        return nets.window.painters(size) is not None


def possible(mode: Mode, params: Params, nets: Nets) -> bool:
    """Whether a part of this mode's picture can be painted alone. Not where something looks across the whole picture or
    along its motion: feedback, smoothing, colours, noise that is warped; nor with deep levels that are kept. Units are
    shown the part of a hint that is made of the whole, if their networks take that."""
    past = mode.temporal
    return (
        mode.work == "img2img"
        and all(_apart(unit) and numbers_of(nets.controlnets.get(unit.net)) for unit in mode.units)
        and mode.deep == "off"
        and past.feedback == "off"
        and past.smoothing == "off"
        and past.colours is None
        and past.noise != "warp"
        and params.ip_source != "previous_output"
    )


def _apart(unit: UnitMode) -> bool:
    """Whether its hint depends on the present picture alone, and acts everywhere in it."""
    return not unit.looks_back and not unit.beside and unit.mask == "off"


def sizes(size: tuple[int, int], grid: int, shares: Sequence[tuple[float, float]] = FEW) -> Iterator[tuple[int, int]]:
    """Of windows in a picture of (height, width), smaller than that."""
    for share in shares:
        height, width = (-(-round(side * part) // grid) * grid for side, part in zip(size, share, strict=True))
        if (height, width) != size:
            yield height, width


def within(window: Box, size: tuple[int, int]) -> Box:
    """What of a window in a picture of (height, width) is shown."""
    top, left = (MARGIN if begin else 0 for begin in (window.y, window.x))
    bottom = 0 if window.y + window.height == size[0] else MARGIN
    right = 0 if window.x + window.width == size[1] else MARGIN
    return Box(window.y + top, window.x + left, window.height - top - bottom, window.width - left - right)


def over(nets: Nets, mode: Mode) -> Nets:
    """`nets` with what paints a frame in `mode`."""
    found = nets.window.painters(mode.window) if nets.window is not None and mode.window is not None else None
    if found is None:
        return nets
    return dataclasses.replace(nets, encode=found.encode, unet=found.unet, decode=found.decode)


def _share(window: tuple[int, int] | None, mode: Mode) -> float:
    return window[0] * window[1] / (mode.size[0] * mode.size[1]) if window is not None else 1.0


def _range(moved: NDArray[np.bool_] | np.bool_) -> tuple[int, int] | None:
    """From the first to the last block that moved, in pixels."""
    found = np.flatnonzero(moved)
    return (int(found[0]) * BLOCK, (int(found[-1]) + 1) * BLOCK) if len(found) else None


def _begin(whole: int, side: int, span: tuple[int, int] | None, grid: int, last: int | None) -> int | None:
    """Where a window begins along an axis, so that all of `span` is shown: as before, else with that in its middle;
    None where it can't."""

    def shows(begin: int) -> bool:
        low = begin + (MARGIN if begin else 0)
        high = begin + side - (MARGIN if begin + side < whole else 0)
        return span is None or (low <= span[0] and span[1] <= high)

    if last is not None and shows(last):
        return last
    middle = whole / 2 if span is None else (span[0] + span[1]) / 2
    found = [begin for begin in range(0, whole - side + 1, grid) if shows(begin)]
    return min(found, key=lambda begin: abs(begin + side / 2 - middle)) if found else None
