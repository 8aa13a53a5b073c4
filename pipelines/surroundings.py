"""What a part of a picture needs to know of the whole: see engines.surroundings."""

from __future__ import annotations

import torch
from torch import Tensor

from engines.base import Nets
from engines.given import Around
from pipelines.knobs import Mode


class Surroundings:
    """What the denoiser's normalisations found in the last whole picture, at each step; in place, on the device."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], Tensor] = {}
        """By step and how many numbers. Not let go of, since a captured frame may be played again."""

    def make(self, nets: Nets, mode: Mode) -> None:
        """Between frames: be ready for one in `mode`."""
        if nets.window is not None and mode.window is not None:
            for i in range(mode.steps):
                if (i, nets.window.numbers) not in self.kept:
                    self.kept[i, nets.window.numbers] = torch.zeros(2, nets.window.numbers, device=nets.device)

    def at(self, nets: Nets, mode: Mode, i: int, rows: int) -> dict[str, Around]:
        """What the denoiser is given besides for step `i` of a frame, whose batch has `rows`, by name."""
        if mode.window is None or nets.window is None:
            return {}
        return {"around": Around(self.kept[i, nets.window.numbers][:rows], not mode.partial)}
