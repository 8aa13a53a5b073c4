"""A running stream: loaded networks, one past, and the host's work around `step`."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from engines.base import Nets
from engines.device import memory
from engines.modelentry import ModelEntry
from engines.registry import Registry
from pipelines.acting import differing
from pipelines.coming import NOTHING_COMES
from pipelines.handover import Acting, Handover
from pipelines.knobs import Knobs
from pipelines.painter import Painter, Whole, painter
from pipelines.params import Params
from pipelines.pictures import Pictures
from pipelines.schedule import SamplerName
from pipelines.spec import Moment, Overtaken, Places, StreamSpec
from pipelines.speech import Speech
from pipelines.start import start
from pipelines.state import StreamState
from pipelines.thrift import Thrift
from pipelines.transfer import Pixels, Transfer
from pipelines.unitnets import UnitNets
from pipelines.windows import over


class DiffusionStream:
    """Implements pipelines.spec.Stream. Once a prompt is settled, a frame and its Params decide the picture."""

    def __init__(
        self,
        nets: Nets,
        size: tuple[int, int],
        params: Params,
        sampler: SamplerName = "turbo",
        scale: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
        model: ModelEntry | None = None,
    ) -> None:
        """`size`: (height, width). `sampler`: what `auto` means. `scale`: what a network that takes guidance as an
        input gets while guidance is off. `clock`, in seconds, counts for frames that come without their moment.
        `model`: what the networks are, if that is known."""
        self.nets, self.size = nets, size
        self.knobs = Knobs(nets, size, sampler, scale)
        self.state = StreamState(*size, nets.device, nets.latent)
        self.speech = Speech(nets, params, clock)
        self.prompter, self.loras = self.speech.prompter, self.speech.loras
        self.unitnets = UnitNets(nets, size, self.knobs, params.units())
        self.pictures = Pictures(self.knobs, nets, model)
        self.image = self.pictures.image
        self.painter: Painter = painter(nets, size)
        self.depth, self.in_place = self.painter.depth, self.painter.in_place
        self._begun: deque[bool | None] = deque()
        """Of each frame that was begun whether a hint can be looked at; None where the last picture is held."""
        self._down = Transfer(nets.device)
        self.thrift = Thrift()
        self._last: Pixels | None = None
        self._counts: Sequence[float] = [0.0, 0.0, 0.0]
        self._hinted, self._held, self._captured, self._take, self._version = False, False, 0, 0, 0
        self.handover = Handover(nets)

    @classmethod
    def load(cls, spec: StreamSpec, params: Params) -> DiffusionStream:
        """Load spec.model and warm it up at its size. Raises engines.errors.ModelError with a sentence."""
        if spec.threads:
            torch.set_num_threads(spec.threads)
        entry = Registry.open().get(spec.model)
        nets, note, upgrade = start(spec)
        stream = cls(nets, (spec.height, spec.width), params, entry.sampler, entry.guidance, model=entry)
        stream.tune(params)  # the networks that they name are there from the first frame on
        stream.warm_up(params)
        stream.handover.note, stream.handover.upgrade = note, upgrade
        return stream

    def twin(self, params: Params) -> DiffusionStream:
        """Another stream over the same networks, with numbers, ControlNets and a past of its own."""
        nets = dataclasses.replace(self.handover.plain, controlnets={}, hintnets={})
        knobs, model = self.knobs, self.pictures.model
        return DiffusionStream(nets, self.size, params, knobs.sampler, knobs.scale, self.speech.clock, model)

    def warm_up(self, params: Params, frames: int = 2) -> None:
        """Let every kernel be chosen and every buffer be made, on a grey input, then forget it."""
        grey = np.full((*self.size, 3), 128, np.uint8)
        self.thrift.windows.waits = False  # whoever starts does not ask for more than a first picture
        for _ in range(frames):
            self(grey, params)
        self.reset()
        self.thrift.windows.waits = True

    def __call__(self, pixels: Pixels, params: Params, moment: Moment | None = None) -> Pixels:
        """One frame: uint8 (h, w, 1 | 3 | 4) of any size in, uint8 (height, width, 3) out."""
        self.begin(pixels, params, moment)
        return self.end()

    def lend(self, places: Places | None) -> None:
        """See pipelines.spec.Stream."""
        self.painter.lend(places)

    def begin(self, pixels: Pixels, params: Params, moment: Moment | None = None, whole: Whole | None = None) -> None:
        """See pipelines.spec.Stream."""
        paints = False
        if not params.pause or self._last is None:
            with self.painter.between():
                paints = self._begin(pixels, params, moment, whole)
        self._begun.append(self.knobs.mode.hint > 0 if paints else None)

    def end(self) -> Pixels:
        """See pipelines.spec.Stream."""
        begun = self._begun.popleft()
        self._hinted = bool(begun)
        if begun is None:
            assert self._last is not None, "a picture is held that was never painted"
            return self._last
        cuts = self._counts[1]
        self._last, self._counts = self.painter.collect()
        if self._counts[1] != cuts:
            self.knobs.units.forget()  # what was seen in the scene before is worth nothing now
        return self._last

    def wait_s(self) -> float:
        return self.painter.wait_s()

    def go_live(self) -> None:
        """See pipelines.spec.Stream."""
        self.painter.live, self.thrift.windows.waits = True, False

    def _begin(self, pixels: Pixels, params: Params, moment: Moment | None, whole: Whole | None) -> bool:
        """Whether a picture is painted; else the last one will do."""
        if params.take != self._take:
            self._take = params.take
            self._begin_anew()
        acting = self._prepare(params, moment)
        seen = (self.pictures.shown, self.knobs.image.changes)
        others = (self.knobs.said, *seen, self._counts[0], self.unitnets.loaded, acting)
        if self.thrift.rest(pixels, params, *others) and not self._held and (self._last is not None or self._begun):
            return False
        if not params.bypass:
            self._merge(acting)
        try:
            frame = self.painter.up(pixels, whole)
        except Overtaken:
            self.thrift.rest.reset()  # it has seen what nobody will
            raise
        if params.ip_source == "previous_output":
            self.painter.settle()
        last = self.state.picture if self._last is not None else None
        self.pictures.choose(params, frame, last, self.speech.moment.seconds)
        self.knobs.units.beside.collect()
        self.turn(params, pixels.shape, pixels, acting, seen)
        self.thrift.stir(params, self.knobs.mode, self.state, *others)
        self.painter.paint(frame, self.knobs, self.state, over(self.nets, self.knobs.mode))
        self.unitnets.look_beside(self.state)
        self._capture(params)
        return True

    def _prepare(self, params: Params, moment: Moment | None) -> Acting:
        """Bring words, networks and engine to `params`; the LoRAs that act now."""
        self.handover.set_threads()
        self.speech.ask(params, moment, params.prompt_fade)
        cond = self.speech.now(params)
        before = self.unitnets.loaded
        self._follow_units(params)
        acting = self.speech.acting(params)
        if cond is not None or acting or self.unitnets.loaded != before or params.ip_on:
            self.painter.meet()
        if cond is not None:
            self.knobs.speak(cond)
        self.image.follow(params, self.speech.moment.seconds)
        if (best := self.handover.choose(acting, params)) is not self.handover.paints:
            self.adopt(best)
        return acting

    def _capture(self, params: Params) -> None:
        """Take the colours of this frame where that is asked for."""
        if params.colour_capture == self._captured:
            return
        self._captured = params.colour_capture
        if self._captured:
            self.painter.settle()
            self.state.capture(self.knobs.mode.temporal.colours)

    def hint(self) -> Pixels | None:
        """What the unit that `hint_preview` names was shown in the last frame, uint8 (height, width, 3); None for none.
        The next frame overwrites it."""
        if not self._hinted:
            return None
        with self.painter.between():
            return self._down.down(self.state.hint, ())[0]

    def turn(
        self, params: Params, source: tuple[int, ...], pixels: Pixels | None = None, acting: Acting = (),
        seen: object = None,
    ) -> None:  # fmt: skip
        """Bring numbers, mode and memories to `params`, for an input of shape `source`. Without its `pixels` all levels
        of the denoiser are computed."""
        before = self.knobs.mode
        self.knobs.turn(params, source)
        if pixels is not None:
            others = (acting, self.knobs.said, self.unitnets.loaded, self._counts[0])
            self.knobs.mode = self.thrift.plan(self.knobs.mode, pixels, params, self.nets, self.state, seen, *others)
            self.knobs.move(self.thrift.windows.corner)
        held = self.painter.hold(self.knobs, self.state, over(self.nets, self.knobs.mode))
        self._held = held is not None
        if held is not None:
            self.thrift.missed(self.knobs.mode)
            self.knobs.hold(held, params)
        now = self.knobs.mode
        if now._replace(deep=before.deep) != before or now.looks_back:
            self.painter.settle()
        self.state.follow(before, self.knobs)

    def show(self, number: int, pixels: Pixels) -> None:
        """The newest picture of control unit `number`'s own stream, or of the image prompt's (IMAGE), uint8
        (h, w, 1 | 3 | 4); held until the next."""
        with self.painter.between():
            self.pictures.show(number, pixels)

    def tune(self, params: Params, moment: Moment | None = None, fades: bool = False) -> None:
        """Wait until what the prompt of `params` says now is encoded and its networks are loaded."""
        self.handover.poll(painting=False, wanted=params.upgrade)
        cond = self.speech.catch_up(params, moment, params.prompt_fade if fades else 0.0)
        if cond is not None:
            with self.painter.between():
                self.painter.meet()
                self.knobs.speak(cond)
        self._follow_units(params)
        self.unitnets.settle()
        self.image.follow(params, self.speech.moment.seconds)
        self.image.settle()

    def adopt(self, nets: Nets) -> None:
        """Between two frames: paint with these networks of the same model from now on. All that was is kept."""
        self.painter.meet()
        self.nets = self.handover.take(nets, self.nets)
        self.unitnets.adopt(self.nets)

    def _merge(self, acting: Acting) -> None:
        """Give the denoiser its LoRAs; eager paints where the faster engine can't take them over."""
        self.loras.merge()
        if not self.handover.follows(acting):
            self.adopt(self.handover.plain)

    def _follow_units(self, params: Params) -> None:
        self.unitnets.follow(params.units(), (params.coming or NOTHING_COMES).controlnets)

    def reset(self) -> None:
        """Forget the past: the next frame is painted as a stream's first."""
        with self.painter.between():
            self.painter.settle()
            self.state.reset()
        self.pictures.reset()
        self.knobs.units.forget()
        self.thrift.forget()
        self._last, self._captured = None, 0

    def _begin_anew(self) -> None:
        """Paint on, owing nothing to the frames before; what is on show and what people chose by hand stays."""
        self.painter.settle()
        self.state.begin_anew(self.knobs.mode.temporal.colours)
        self.knobs.units.forget()
        self.thrift.forget()

    def version(self, params: Params) -> int:
        """Implements pipelines.spec.Stream."""
        self._version = self._version if self._held else params.version
        return self._version

    def took(self, params: Params) -> Mapping[str, object]:
        """Implements pipelines.spec.Stream."""
        return {
            **self.speech.took(params),
            "engine": self.nets.described,
            "controlnets": differing(params, self.knobs.units.using),
            "waiting": self.unitnets.waiting(),
        }

    def notes(self) -> dict[str, float | str]:
        """Telemetry; from any thread, waits for nothing."""
        held, cuts, difference = self._counts
        return {
            **self.handover.notes(self.painter, self.thrift.reuse.note, self.thrift.windows.note),
            "guard.held": held,
            **memory(self.nets.device),
            **self.thrift.notes(),
            "coherence.cuts": cuts,
            "coherence.difference": difference,
            **self.speech.notes(),
            **self.unitnets.notes(),
            **self.image.notes(),
        }

    def close(self) -> None:
        """Stop the threads. The networks go when the stream does."""
        self.painter.close()
        self.speech.close()
        self.unitnets.close()
        self.image.close()
