"""Everything that one frame hands to the next. Lives on the device; nothing else in the pipeline remembers."""

from __future__ import annotations

import torch

from pipelines.carry import CarriedHint
from pipelines.coherence.cut import CutDetector
from pipelines.coherence.match import ColourMatch
from pipelines.coherence.noise import MovingNoise, TravellingNoise
from pipelines.coherence.refresh import Refresh
from pipelines.knobs import Knobs, Mode
from pipelines.reuse import DeepStates
from pipelines.surroundings import Surroundings
from pipelines.temporal import Colours

NUMBERS = 3


class StreamState:
    """One stream's past. Written in place by `step`, so that its addresses hold still."""

    def __init__(self, height: int, width: int, device: torch.device, latent: tuple[int, int, int]) -> None:
        """`latent`: C, h, w."""

        def picture() -> torch.Tensor:
            return torch.zeros(1, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)

        def flag() -> torch.Tensor:
            return torch.zeros((), dtype=torch.bool, device=device)

        self._device, self._latent = device, latent
        self.nothing = flag()
        """Always false."""
        self.empty = torch.zeros(0, device=device)
        """What nobody asks for."""
        self.picture = picture()
        """The last good painted picture: fp32 [1, 3, H, W] in [-1, 1]."""
        self.painted = flag()
        """Whether there is one yet."""
        self.unbroken = flag()
        """Whether the frame before this one was good: what recurs from frame to frame may be used."""
        self.held = torch.zeros((), dtype=torch.int32, device=device)
        """How often a frame was not finite since the stream was made."""
        self.source = picture()
        """The fitted input of the frame before, as far as frames that use it follow each other."""
        self.followed = flag()
        """Whether they do."""
        self.cut = CutDetector(device)
        self.latent = torch.zeros(1, *latent, device=device)
        """What was decoded to `picture`, while frames follow each other."""
        self.shown = picture()
        """`picture` after smoothing, while there is any."""
        self.hint = torch.zeros(height, width, 3, dtype=torch.uint8, device=device)
        """The hint of the unit that `Mode.hint` names, as the last frame that had one showed it to its network."""
        self.captured = picture()
        """The picture whose colours were caught last."""
        self.has_captured = flag()
        self.colours: dict[tuple[str, str], ColourMatch] = {}
        """The reference's colours by space and method, as far as these have been used."""
        self.travelling = TravellingNoise((1, *latent), device)
        self.moving: MovingNoise | None = None
        """Made when it is first used."""
        self._begun: tuple[object, ...] = ()
        self.deep = DeepStates()
        self.surroundings = Surroundings()
        self.refresh: Refresh | None = None
        """Made when it is first used."""
        self.hints: dict[tuple[int, tuple[int, int], bool], CarriedHint] = {}
        """By `UnitMode.memory`: what networks saw that do not look at every frame. Kept, since a captured frame of that
        size may be played again."""

    def make(self, mode: Mode, knobs: Knobs) -> None:
        """Between frames, on the host: all memory that `mode` uses, as far as it is not there yet."""
        if mode.temporal.colours is not None:
            self._match(mode.temporal.colours)
        for unit in mode.units:
            if unit.look != "each" and unit.memory not in self.hints:
                self.hints[unit.memory] = CarriedHint(unit.size, self._device, unit.beside)
        if mode.temporal.noise == "warp" and self.moving is None:
            channels, height, width = self._latent
            most = (len(knobs.noise), channels, height, width)
            self.moving = MovingNoise(most, self._device, cells=4 if channels <= 8 else 2)
        if mode.temporal.refresh and self.refresh is None:
            self.refresh = Refresh(mode.size, self._device)

    def follow(self, before: Mode, knobs: Knobs) -> None:
        """Between frames, on the host: be ready for `knobs.mode`, where the frame before had `before`."""
        now = knobs.mode
        self.make(now, knobs)
        if not _follows(before, now):
            self.break_off()
        if now.looks_back and not before.looks_back:
            self.followed.fill_(False)
        if now.temporal.smoothing != "off" and before.temporal.smoothing == "off":
            self.shown.copy_(self.picture)
        if now.temporal.colours is not None and now.temporal.colours != before.temporal.colours:
            self._refer(now.temporal.colours)
        if now.temporal.noise != "fixed":
            self._begin_noise(now, knobs)
        if self.refresh is not None and not before.temporal.refresh:
            self.refresh.forget()

    def capture(self, colours: Colours | None) -> None:
        """Between frames, on the host: catch the colours of the last picture."""
        self.captured.copy_(self.picture)
        self.has_captured.copy_(self.painted)
        if colours is not None and colours.reference == "captured":
            self._refer(colours)

    def numbers(self) -> torch.Tensor:
        """fp32 [NUMBERS]: frames held, cuts, and how different the last input was. Exact up to 2^24."""
        return torch.stack([self.held.float(), self.cut.count.float(), self.cut.difference])

    def break_off(self) -> None:
        """What comes next has nothing to do with what was: no recurrence, but the last good picture is still held."""
        self.unbroken.fill_(False)
        self.followed.fill_(False)
        self.cut.reset()

    def begin_anew(self, colours: Colours | None) -> None:
        """Between frames, on the host: what recurs starts as in a new stream, of whose past only what was caught by
        hand is known: colours that `colour_capture` caught."""
        self._begun = ()
        if colours is not None:
            self._refer(colours)
        self.break_off()

    def reset(self) -> None:
        """Forget the past; the counts stay."""
        self.painted.fill_(False)
        self.has_captured.fill_(False)
        for match in self.colours.values():
            match.reset()
        self._begun = ()
        self.break_off()

    def _refer(self, colours: Colours) -> None:
        """Begin with a reference: the captured one if that is wanted, else none yet."""
        match = self._match(colours)
        match.reset()
        if colours.reference == "captured":
            match.take(self.captured, self.has_captured)

    def _match(self, colours: Colours) -> ColourMatch:
        key = (colours.space, colours.method)
        if key not in self.colours:
            self.colours[key] = ColourMatch(colours.space, colours.method, self._device)
        return self.colours[key]

    def _begin_noise(self, mode: Mode, knobs: Knobs) -> None:
        """Start anew from another seed, or in another mode."""
        kind, seed = mode.temporal.noise, knobs.drawn[0]
        wanted = (kind, seed) if kind == "travel" else (kind, *knobs.drawn)
        if wanted == self._begun:
            return
        self._begun = wanted
        if kind == "travel":
            self.travelling.begin(seed)
            return
        drawn = torch.cat(list(knobs.noise[: knobs.drawn[3]]))
        assert self.moving is not None, "memory for noise was not made"
        self.moving.begin(drawn, seed)


def _follows(before: Mode, now: Mode) -> bool:
    """Whether what the frame before left behind is this one's past: an input of the same shape, and it was painted."""
    painted = before.work != "bypass" or now.work == "bypass"
    return before.source == now.source and painted
