"""What a part of a picture needs to know of the whole: see engines.surroundings."""

from __future__ import annotations

import torch
from torch import Tensor

from engines.base import Nets
from engines.given import Around
from engines.window import numbers_of
from pipelines.knobs import Mode


class Surroundings:
    """What the denoiser's normalisations found in the last whole picture, at each step; in place, on the device."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int, int], Tensor] = {}
        """By ControlNet, none for the denoiser, step and how many numbers. Not let go of, since a captured frame may be
        played again."""

    def make(self, nets: Nets, mode: Mode) -> None:
        """Between frames: be ready for one in `mode`."""
        if nets.window is None or mode.window is None:
            return
        for net in ("", *(unit.net for unit in mode.units)):
            for i in range(mode.steps):
                key = self._key(nets, i, net)
                if key not in self.kept:
                    self.kept[key] = torch.zeros(2, key[2], device=nets.device)

    def at(self, nets: Nets, mode: Mode, i: int, rows: int, net: str = "") -> dict[str, Around]:
        """What the denoiser, or a ControlNet, is given besides for step `i` of a frame, whose batch has `rows`, by
        name."""
        if mode.window is None or nets.window is None:
            return {}
        return {"around": Around(self.kept[self._key(nets, i, net)][:rows], not mode.partial)}

    def _key(self, nets: Nets, i: int, net: str) -> tuple[str, int, int]:
        assert nets.window is not None, "there are no windows"
        return net, i, numbers_of(nets.controlnets[net]) if net else nets.window.numbers
