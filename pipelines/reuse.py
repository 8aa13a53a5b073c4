"""Deep features kept: DeepCache (Ma et al. 2023), with the frames of a stream in place of one picture's steps.

Whether a frame computes the denoiser's levels below the outermost one, or takes what they said in a frame before, is
decided on the host before it begins, and part of its `Mode`: a captured frame has two forms.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.base import Nets
from engines.given import Deep
from pipelines.coherence.cut import HostScene
from pipelines.knobs import DeepMode, Mode
from pipelines.pace import WAITING
from pipelines.params import Params, table
from pipelines.transfer import Pixels
from pipelines.unitrow import UNITS

JUMP = 0.05
"""Of a number's range: by more it may not have moved since, lest the levels speak of another picture."""
WHOLE = "it computes every level of the denoiser in each frame, whatever reuse_deep says"
_NUMBERS = ("strength", "eta", "guidance", "delta", "seed_mix", "ip_scale")


class Reuse:
    """One stream's plan, made frame by frame."""

    def __init__(self) -> None:
        self.taken = 0
        """Frames painted with what was kept since the stream was made."""
        self.note = ""
        """What it can't do with these networks, a sentence, or nothing."""
        self._age = 0
        self._what: tuple[object, ...] | None = None
        self._numbers = np.zeros(1)
        self._scene = HostScene()

    def planned(self, mode: Mode, pixels: Pixels, params: Params, nets: Nets, *others: object) -> Mode:
        """`mode` with what the next frame does. `others`: what else decides what the deep levels say."""
        if nets.outer is None or mode.work == "bypass":
            self.note = WHOLE if nets.outer is None and params.reuse_deep > 0 else ""
            self.forget()
            return mode
        self.note = ""
        seeds = (params.seed, params.seed2)
        return mode._replace(deep=self(pixels, params, told(mode), seeds, nets.unet, *others))

    def __call__(self, pixels: Pixels, params: Params, *what: object) -> DeepMode:
        """What the next frame does, whose input is uint8 (h, w, 1 | 3 | 4). `what`: all that the deep levels were told
        besides the picture and numbers that glide; fresh at once when any of it changed."""
        if params.reuse_deep <= 0:
            self.forget()
            return "off"
        numbers = _numbers(params)
        known = self._what == what and self._age < params.reuse_deep
        if (
            known
            and float(np.abs(numbers - self._numbers).max()) <= JUMP
            and (params.mode == "txt2img" or self._scene.same(pixels, params.cut_sensitivity))
        ):
            self._age += 1
            self.taken += 1
            return "kept"
        self._what, self._numbers, self._age = what, numbers, 0
        self._scene.take(pixels)
        return "fresh"

    def missed(self, mode: Mode) -> None:
        """The frame that was planned as `mode` is painted in another one."""
        if mode.deep == "fresh":
            self.forget()

    def forget(self) -> None:
        """The next frame is fresh."""
        self._what = None


class DeepStates:
    """What the deep levels said last, at each step; in place, on the device."""

    def __init__(self) -> None:
        self.kept: dict[tuple[object, ...], Tensor] = {}
        """By step, shape and precision. Not let go of, since a captured frame of that shape may be played again."""

    def make(self, nets: Nets, mode: Mode) -> None:
        """Between frames: be ready for one in `mode`."""
        if nets.outer is not None and mode.deep == "fresh":
            for i in range(mode.steps):
                key = self._key(nets, i)
                if key not in self.kept:
                    self.kept[key] = torch.zeros(2, *nets.outer.state, dtype=nets.dtype, device=nets.device)

    def at(self, nets: Nets, mode: DeepMode, i: int, rows: int) -> Deep | None:
        """For step `i` of a frame, whose batch has `rows`; None where nothing is kept."""
        return Deep(self.kept[self._key(nets, i)][:rows], mode == "fresh") if mode != "off" else None

    def _key(self, nets: Nets, i: int) -> tuple[object, ...]:
        return i, nets.outer, nets.dtype


def told(mode: Mode) -> Mode:
    """What of a frame's mode the deep levels depend on: not which hint was seen in which frame."""
    units = tuple(unit._replace(look="watch" if unit.look in WAITING else "each") for unit in mode.units)
    return mode._replace(units=units, hint=0, deep="off", window=None)


@cache
def _ranges() -> dict[str, float]:
    names = (*_NUMBERS, *(f"control{number}_weight" for number in range(1, UNITS + 1)))
    return {name: float((spec := table()[name]).high or 1.0) - float(spec.low or 0.0) for name in names}


def _numbers(params: Params) -> NDArray[np.float64]:
    return np.array([getattr(params, name) / span for name, span in _ranges().items()])
