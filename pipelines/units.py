"""Control units: which of them run, decided on the host; how strongly, in buffers on the device.

A weight, a threshold and a control mode are numbers; what a unit looks at, and at which steps it has anything to do,
are part of a frame's `Mode`. A unit without effect is left out of it and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.base import ControlNet, Nets
from engines.fit import Fit
from engines.modelrows import NO_CONTROLNET
from pipelines.beside import Beside
from pipelines.pace import Look, Pace
from pipelines.params import Params
from pipelines.preprocess.registry import CHOICES
from pipelines.unitrow import UNITS, ControlMask, ControlMode, ControlSource, Unit

SOFT = 0.825
"""A step towards the details weakens a hint by this, unless it is balanced: ControlNet's guess mode."""
EXACT = 1e-6
"""A noise level that differs from a bound by no more is on it."""


class UnitMode(NamedTuple):
    """One unit that runs: its part in the sequence of operations."""

    number: int
    """From 1."""
    net: str
    """Id of the ControlNet."""
    steps: tuple[bool, ...]
    """At which steps it acts."""
    source: ControlSource
    follow: bool
    """Whether the last picture is moved as the input moved."""
    preprocessor: str
    fit: Fit
    size: tuple[int, int]
    """Height and width at which it is preprocessed."""
    mask: ControlMask
    own: tuple[int, ...]
    """Height, width and channels of the unit's own picture; empty where it has none."""
    channels: int = 3
    """Of its hint: 6 for TemporalNet2, which sees the input's flow beside the picture."""
    look: Look = "each"
    """Whether a preprocessor with a network looks at this frame."""

    @property
    def beside(self) -> bool:
        """Whether its network runs beside the stream."""
        return CHOICES[self.preprocessor].beside

    @property
    def memory(self) -> tuple[int, tuple[int, int], bool]:
        """What its carried hint is kept under."""
        return self.number, self.size, self.beside

    @property
    def sees_flow(self) -> bool:
        """Whether it is shown how the input moves."""
        return self.channels == 6

    @property
    def looks_back(self) -> bool:
        """Whether it needs what the frame before left behind."""
        return self.source in ("previous_output", "previous_input") or self.look != "each" or self.sees_flow


class Turn(NamedTuple):
    """What of a frame's parameters the units depend on, besides their own."""

    levels: tuple[float, ...]
    """Noise level of each step, 0 for pure noise to 1 for the clean picture."""
    fit: Fit
    size: tuple[int, int]
    source: tuple[int, int, int]
    """The input's height, width, channels."""
    followed: bool = True
    """Whether the picture follows the input: txt2img's doesn't."""


class UnitKnobs:
    """The buffers of one stream's control units, and the host's side of them."""

    def __init__(self, nets: Nets) -> None:
        self.own: dict[int, Tensor] = {}
        """Each unit's own picture, uint8 [h, w, 1 | 3 | 4] on the device, from a stream of its own or as a still."""
        self.using: dict[int, str] = {}
        """Id of the ControlNet that each unit has in use: the one that it names, once that is there."""
        self.pace, self.beside = Pace(), Beside(nets.device)
        self._nets = nets
        self._seen: object = None
        self._modes: tuple[UnitMode, ...] = ()
        self._make_numbers(nets)

    def _make_numbers(self, nets: Nets) -> None:
        pin, count = nets.device.type == "cuda", len(nets.residuals)
        self._host = torch.zeros(UNITS, count, 2, 1, 1, 1, dtype=nets.dtype, pin_memory=pin)
        self._scales = torch.zeros(self._host.shape, dtype=nets.dtype, device=nets.device)
        self._host_bounds = torch.zeros(UNITS, 2, pin_memory=pin)
        self._bounds = torch.zeros(UNITS, 2, device=nets.device)
        self._views = [([rows[1:] for rows in unit], list(unit)) for unit in self._scales]
        self.bounds = [(unit[0], unit[1]) for unit in self._bounds]
        """Each unit's two thresholds, 0-dim."""

    def scales(self, number: int, batch: int) -> Sequence[Tensor]:
        """What unit `number`'s residuals are multiplied by: [batch, 1, 1, 1] each, the prompt's row last."""
        return self._views[number - 1][batch - 1]

    def turn(self, params: Params, turn: Turn) -> tuple[UnitMode, ...]:
        """Bring the buffers to `params`. Copies what changed, waits for nothing; gives the units that run."""
        units = params.units()
        self.using = _in_use(units, self.using, self._nets.controlnets)
        shapes = {number: own.shape for number, own in self.own.items()}
        seen = (units, turn, self.using, shapes, tuple(self._nets.hintnets))
        if seen != self._seen:
            self._seen = seen
            self._modes = tuple(mode for number in self.using if (mode := self._mode(number, units, turn)))
            if self._modes:
                self._fill(units)
        within, beside = ({m.number: _watched(m, turn) for m in self._modes if _looks(m, b)} for b in (False, True))
        looks = self.pace(within, units) | self.beside.looks(beside)
        return tuple(mode._replace(look=looks.get(mode.number, "each")) for mode in self._modes)

    @property
    def age(self) -> int:
        """How many frames ago the oldest hint in use was seen."""
        return max(self.pace.age, self.beside.age)

    def forget(self) -> None:
        """What comes next has nothing to do with what was: every network looks anew."""
        self.pace.forget()
        self.beside.forget()

    def _mode(self, number: int, units: Sequence[Unit], turn: Turn) -> UnitMode | None:
        unit, net, own = units[number - 1], self.using[number], self.own.get(number)
        alone = unit.source in ("stream", "still")
        steps = tuple(unit.start - EXACT <= level <= unit.end + EXACT for level in turn.levels)
        if not unit.on or unit.weight <= 0.0 or not any(steps) or (alone and own is None):
            return None
        needs = CHOICES[unit.preprocessor].needs
        if needs and needs not in self._nets.hintnets:
            return None
        channels = self._nets.controlnets[net].channels
        shape = tuple(own.shape) if alone and own is not None else ()
        has_alpha = shape[2] == 4 if shape else turn.source[2] == 4
        return UnitMode(
            number=number,
            net=net,
            steps=steps,
            source=unit.source,
            # TemporalNet2 was trained on pictures that lie where they lay: what moved, it is told by the flow.
            follow=unit.follow and unit.source == "previous_output" and turn.followed and channels == 3,
            preprocessor=unit.preprocessor,
            fit=turn.fit if unit.resize == "fit" else unit.resize,
            size=turn.size if unit.pixel_perfect else _at(turn.size, unit.resolution),
            mask=unit.mask if has_alpha else "off",
            own=shape,
            channels=channels,
        )

    def _fill(self, units: Sequence[Unit]) -> None:
        count = self._host.shape[1]
        for mode in self._modes:
            unit = units[mode.number - 1]
            rows = layer_weights(unit.weight, unit.mode, count)
            self._host[mode.number - 1] = torch.from_numpy(rows)[..., None, None, None]
            maker = CHOICES[unit.preprocessor]
            bounds = (maker.low.settle(unit.low), maker.high.settle(unit.high))
            self._host_bounds[mode.number - 1] = torch.tensor(bounds)
        self._scales.copy_(self._host, non_blocking=True)
        self._bounds.copy_(self._host_bounds, non_blocking=True)


def _looks(mode: UnitMode, beside: bool) -> bool:
    """Whether it looks through a network that is part of the frame, or through one beside the stream."""
    return bool(CHOICES[mode.preprocessor].needs) and mode.beside == beside


def _watched(mode: UnitMode, turn: Turn) -> tuple[object, ...]:
    """What a hint may be carried on for: the same network looking at pictures of the same place and shape."""
    needs = CHOICES[mode.preprocessor].needs
    return needs, mode.source, mode.fit, mode.size, mode.own, turn.source


def layer_weights(weight: float, mode: ControlMode, count: int) -> NDArray[np.float32]:
    """(count, 2): what each residual is multiplied by, the middle's last, for the negative prompt and for the prompt.

    As in sd-webui-controlnet: `prompt` and `control` weaken a residual by 0.825 for each one between it and the
    middle, and `control` leaves the negative side alone, so that guidance multiplies the hint too.
    """
    soft = np.ones(count) if mode == "balanced" else SOFT ** np.arange(count - 1, -1, -1)
    sides = (0.0 if mode == "control" else 1.0, 1.0)
    return np.asarray(weight * soft[:, None] * np.asarray(sides), np.float32)


def _in_use(units: Sequence[Unit], using: Mapping[int, str], here: Mapping[str, ControlNet]) -> dict[int, str]:
    """The ControlNet of each unit: the one that it names if that is here, else the one that it had."""
    found: dict[int, str] = {}
    for number, unit in enumerate(units, 1):
        net = unit.model if unit.model in here else using.get(number, "")
        if unit.model != NO_CONTROLNET and net in here:
            found[number] = net
    return found


def _at(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """The shape of `size` with `resolution` pixels along its shorter side."""
    scale = resolution / min(size)
    return round(size[0] * scale), round(size[1] * scale)
