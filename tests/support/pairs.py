"""A stream whose frames are recorded on an emulated card, and an eager one that paints what it should show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from engines.base import Build, Nets
from engines.compiled import CompiledEngine
from engines.eager import EagerEngine
from engines.emulated import EmulatedMachine
from pipelines.lanes import Lanes
from pipelines.params import Params
from pipelines.stream import DiffusionStream

SIDE = 64
BUILD = Build(SIDE, SIDE, device="cpu", dtype="fp32")


class Streams:
    """Both, over networks of the same weights."""

    def __init__(
        self, folder: Path, controls: Mapping[str, Path], change: Callable[[Nets], Nets] = lambda nets: nets
    ) -> None:
        """`controls`: folders of ControlNets, by id. `change`: what becomes of the networks that are recorded."""
        self.machine = EmulatedMachine()
        nets = EagerEngine().load(folder, BUILD), change(CompiledEngine(self.machine).load(folder, BUILD))
        for each in nets:
            assert each.load_control is not None
            each.controlnets.update({name: each.load_control(path) for name, path in controls.items()})
        self.eager, self.fast = (DiffusionStream(each, (SIDE, SIDE), Params(), clock=lambda: 0.0) for each in nets)
        assert isinstance(self.fast.painter, Lanes)
        self.lanes: Lanes = self.fast.painter

    def close(self) -> None:
        self.eager.close()
        self.fast.close()


def frame(seed: int, shape: tuple[int, ...] = (80, 100, 3)) -> np.ndarray:
    """Coarse noise, uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, shape[2]), np.uint8)
    return np.kron(coarse, np.ones((shape[0] // 8, shape[1] // 10, 1), np.uint8))
