"""Every run-time number of a frame, on the device, at an address that never changes.

`step` reads nothing else. A slider, a seed or a prompt that moves is a copy into these buffers before the frame; only
what changes the shape of the work (`Mode`) makes another graph.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engines.base import Nets
from engines.fit import Fit
from pipelines.foreknown import Facts, Foreknown
from pipelines.image import ImageKnobs, ImageMode
from pipelines.noise import SeedWalk
from pipelines.onecall import one_call
from pipelines.pace import WAITING
from pipelines.params import GuidanceMode, Params
from pipelines.sampling import draws
from pipelines.schedule import MAX_STEPS, Levels, NoiseSchedule, SamplerName
from pipelines.temporal import Temporal, temporal
from pipelines.units import Turn, UnitKnobs, UnitMode

DeepMode = Literal["off", "fresh", "kept"]
"""Every level computed and nothing kept; computed and kept; or taken from the last frame that was fresh."""
Work = Literal["img2img", "txt2img", "bypass"]
BLEND = ("takes_x", "takes_noise", "gives_x", "gives_noise", "gives_said")
_SCALARS = (
    *("start_alpha", "start_sigma", "guidance", "delta", "mix"),
    *("feedback", "smoothing", "colour_amount", "cut_sensitivity", "noise_speed"),
    *("refresh_threshold", "refresh_max_age", "place_y", "place_x"),
    *BLEND,
)
_SCALAR_ROWS = -(-len(_SCALARS) // MAX_STEPS)


class Mode(NamedTuple):
    """What decides the sequence of operations. Equal modes run the same graph."""

    work: Work
    sampler: SamplerName
    steps: int
    guidance: GuidanceMode
    fit: Fit
    source: tuple[int, int, int]
    """The input's height, width, channels."""
    size: tuple[int, int]
    """The painted picture's height, width."""
    units: tuple[UnitMode, ...] = ()
    """Control units that act."""
    temporal: Temporal = Temporal()
    hint: int = 0
    """The control unit whose hint is kept to be looked at; 0 for none."""
    image: ImageMode | None = None
    """The picture that is a prompt."""
    deep: DeepMode = "off"
    """Whether the denoiser's deep levels are computed, and kept for the frames that follow."""
    window: tuple[int, int] | None = None
    """Height and width of the part that is painted; the picture's own where a whole one leaves behind what its parts
    need; None where nothing is left behind."""

    @property
    def partial(self) -> bool:
        """Whether a part of the picture is painted, and the rest stays on show."""
        return self.window is not None and self.window != self.size

    @property
    def looks_back(self) -> bool:
        """Whether the frame needs what the one before it left behind."""
        return self.temporal.looks_back or any(unit.looks_back for unit in self.units)

    @property
    def plain(self) -> bool:
        """Whether nothing looks at the input but the encoder, and nothing changes the picture after the decoder."""
        return self.work != "bypass" and not self.units and not self.temporal.looks_back and not self.temporal.colours

    @property
    def one_call(self) -> bool:
        """See Traits. Control units ask for the noised latent, guidance for a second run, ddim for a second noise."""
        return self.steps == 1 and self.guidance == "off" and self.sampler != "ddim" and not self.units

    @property
    def follows(self) -> bool:
        """Whether it needs the input's flow."""
        return self.temporal.follows or self.moves_pictures

    @property
    def moves_pictures(self) -> bool:
        """Whether it needs to know where the flow can be believed."""
        return self.temporal.moves_pictures or any(unit.follow for unit in self.units)


class Traits(NamedTuple):
    """What a mode's properties say, computed once a frame: after a network each call costs a hundred times more."""

    plain: bool
    """Whether nothing looks at the input but the encoder, nothing changes the picture after the decoder, and the host
    may look at numbers."""
    looks_back: bool
    one_call: bool
    """Whether all that the walk does is weighted sums around one run of the denoiser: see pipelines.walk."""


class Knobs:
    """The buffers of one stream, and the host's side of them."""

    def __init__(self, nets: Nets, size: tuple[int, int], sampler: SamplerName, scale: float) -> None:
        """`sampler` is what `auto` means; `scale` what a network that takes guidance gets while guidance is off."""
        self.schedule = NoiseSchedule.from_config(nets.scheduler)
        self.prediction = self.schedule.prediction
        self.mode = Mode("bypass", sampler, 1, "off", "crop", (*size, 3), size)
        self.sampler, self.scale, self._takes_guidance = sampler, scale, nets.takes_guidance
        self._make_numbers(nets.device)
        self._noise = torch.zeros(MAX_STEPS + 1, 1, *nets.latent, device=nets.device)
        self.noise: Sequence[Tensor] = tuple(self._noise)
        self.blank = torch.zeros(1, *nets.latent, device=nets.device)
        self._cond = tuple(
            torch.zeros(2, *out.shape[1:], dtype=nets.dtype, device=nets.device) for out in nets.text.spec.outputs
        )
        self.both: Sequence[Tensor] = self._cond
        """The negative prompt's row, then the prompt's: [2, L, D], and SDXL's others."""
        self.positive: Sequence[Tensor] = tuple(part[1:] for part in self._cond)
        self.units = UnitKnobs(nets)
        self.image = ImageKnobs(nets.device)
        self.foreknown = Foreknown(self._cond[0].shape[1])
        self._corner = 0, 0
        self._guidance = 0.0
        self.said = 0
        """How many times `speak` was called."""
        self._times: tuple[float, ...] = ()
        self._walk = SeedWalk((1, *nets.latent), nets.device)
        self._seen: tuple[object, ...] = ()
        self.drawn: tuple[int, int, float, int] = (-1, -1, 0.0, 0)
        """What `noise` was drawn from: seed, seed2, seed_mix, and how many."""

    @property
    def mode(self) -> Mode:
        """The next frame's."""
        return self._mode_now

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode_now = mode
        self.traits = Traits(mode.plain, mode.looks_back, mode.one_call)

    def _make_numbers(self, device: torch.device) -> None:
        """One buffer for all numbers: a change is one copy."""
        rows = len(Levels._fields)
        self.numbers = torch.zeros(rows + _SCALAR_ROWS, MAX_STEPS, device=device)
        """All of them."""
        self._host = torch.zeros(rows + _SCALAR_ROWS, MAX_STEPS, pin_memory=device.type == "cuda")
        self._rows = [tuple(row) for row in self.numbers[:rows]]
        self.levels = Levels(*self._rows)
        self._name(self.numbers)

    def _name(self, numbers: Tensor) -> None:
        flat = numbers[len(Levels._fields) :].view(-1)
        scalars = dict(zip(_SCALARS, flat, strict=False))
        self.start_alpha, self.start_sigma = scalars["start_alpha"], scalars["start_sigma"]
        """The latent that the walk begins with: start_alpha x0 + start_sigma noise."""
        self.guidance, self.delta, self.mix = scalars["guidance"], scalars["delta"], scalars["mix"]
        self.feedback, self.smoothing = scalars["feedback"], scalars["smoothing"]
        self.colour_amount, self.cut_sensitivity = scalars["colour_amount"], scalars["cut_sensitivity"]
        self.noise_speed = scalars["noise_speed"]
        self.refresh_threshold, self.refresh_max_age = scalars["refresh_threshold"], scalars["refresh_max_age"]
        self.blend = tuple(scalars[name].view(1) for name in BLEND)
        """See engines.given.Blend."""
        self.place = flat[_SCALARS.index("place_y") :][:2]
        """Where the part that is painted begins, y and x in pixels."""

    def over(self, numbers: Tensor) -> Knobs:
        """These knobs, their scalars read from `numbers`, a copy of `self.numbers`."""
        if numbers is self.numbers:
            return self
        knobs = copy.copy(self)
        knobs._name(numbers)
        return knobs

    def recorded(self) -> Knobs:
        """For a frame that is recorded: what the host knows now is not asked, and nothing is left to it."""
        knobs = copy.copy(self)
        knobs.foreknown = self.foreknown.promised()
        knobs.traits = self.traits._replace(plain=False, one_call=False)
        return knobs

    def turn(self, params: Params, source: tuple[int, ...]) -> None:
        """Bring the buffers to `params`, for an input of shape `source`. Copies what changed, waits for nothing."""
        mode = self._mode(params, source)
        self._bring(mode, params)
        if mode.work == "bypass":
            self.units.forget()
        else:
            units, image = self._units(mode, params), self.image.turn(params)
            looked = [unit.number for unit in units if unit.look not in WAITING]
            hint = params.hint_preview if params.hint_preview in looked else 0
            mode = mode._replace(units=units, temporal=temporal(params), hint=hint, image=image)
        self.mode = mode

    def move(self, corner: tuple[int, int]) -> None:
        """After `turn`: the part that is painted begins there, y and x in pixels."""
        if corner != self._corner:
            self._corner = corner
            self._write(dict(zip(("place_y", "place_x"), corner, strict=True)))
            self.numbers.copy_(self._host, non_blocking=True)

    def hold(self, mode: Mode, params: Params) -> None:
        """After `turn`: paint in `mode`, one that was painted in before, with what `params` say of its numbers."""
        self._bring(mode, params)
        self.mode = mode

    def _bring(self, mode: Mode, params: Params) -> None:
        seen = (mode.work, mode.sampler, mode.steps, mode.guidance, *(getattr(params, name) for name in _LIVE))
        if seen != self._seen:
            self._seen = seen
            self.levels = Levels(*(row[: mode.steps] for row in self._rows))
            self._fill(mode, params)
            self.numbers.copy_(self._host, non_blocking=True)
        drawn = (params.seed, params.seed2, params.seed_mix, draws(mode.sampler, mode.steps))
        if drawn != self.drawn:
            self.drawn = drawn
            self._noise[: drawn[3]].copy_(self._walk(*drawn))

    @property
    def facts(self) -> Facts:
        """What decides what networks make of steps and prompts, whatever the picture."""
        both = self.mode.guidance in ("full", "onetime")
        return Facts(self._times, self._guidance, self.said, both)

    @property
    def times(self) -> Tensor:
        """The timestep of each step, fp32 [steps]."""
        return self.numbers[Levels._fields.index("t")][: self.mode.steps]

    def speak(self, cond: Sequence[Tensor]) -> None:
        """The prompts' embeddings, negative's row first, as the fade has them now."""
        self.said += 1
        for mine, new in zip(self._cond, cond, strict=True):
            mine.copy_(new)

    def _mode(self, params: Params, source: tuple[int, ...]) -> Mode:
        work: Work = "bypass" if params.bypass else params.mode
        sampler = self.sampler if params.sampler == "auto" else params.sampler
        guidance = "off" if self._takes_guidance else params.guidance_mode
        shape = (source[0], source[1], source[2])
        return Mode(work, sampler, params.steps, guidance, params.fit, shape, self.mode.size)

    def _units(self, mode: Mode, params: Params) -> tuple[UnitMode, ...]:
        followed = mode.work == "img2img"
        return self.units.turn(params, Turn(self._times, mode.fit, mode.size, mode.source, followed))

    def _fill(self, mode: Mode, params: Params) -> None:
        txt2img = mode.work == "txt2img"
        strength = 1.0 if txt2img else params.strength
        levels = self.schedule.levels(mode.sampler, mode.steps, strength, params.eta)
        start = (levels.alpha[0], levels.sigma[0])
        if txt2img:  # from noise alone; turbo's is the one sampler that scales it
            start = (0.0, levels.sigma[0] if mode.sampler == "turbo" else 1.0)
        own = params.guidance_mode == "off" and self._takes_guidance
        self._times = tuple(1.0 - t / self.schedule.last for t in levels.t)
        self._guidance = self.scale if own else params.guidance
        scalars = (
            *(*start, self._guidance, params.delta, params.mix),
            *(params.feedback, params.smoothing, params.colour_amount, params.cut_sensitivity),
            1.0 if params.noise_mode == "frame" else params.noise_speed,
            *(params.refresh_threshold, params.refresh_max_age, *self._corner),
            *(one_call(mode.sampler, levels, start, self.prediction) if mode.one_call else (0.0,) * len(BLEND)),
        )
        self._host.numpy()[: len(levels), : mode.steps] = np.asarray(levels)
        self._write(dict(zip(_SCALARS, scalars, strict=True)))

    def _write(self, scalars: Mapping[str, float]) -> None:
        host = self._host.numpy()[len(Levels._fields) :].reshape(-1)
        for name, number in scalars.items():
            host[_SCALARS.index(name)] = number


_LIVE = (
    *("strength", "eta", "guidance", "guidance_mode", "delta", "mix"),
    *("feedback", "smoothing", "colour_amount", "cut_sensitivity", "noise_mode", "noise_speed"),
    *("refresh_threshold", "refresh_max_age"),
)
