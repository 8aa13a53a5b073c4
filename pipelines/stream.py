"""A running stream: loaded networks, one past, and the host's work around `step`."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from engines.base import ImageAdapter, Nets
from engines.device import memory
from engines.errors import ModelError
from engines.modelentry import ModelEntry
from engines.registry import Registry
from pipelines.acting import differing
from pipelines.coming import NOTHING_COMES
from pipelines.imageprompt import ImagePrompter
from pipelines.knobs import Knobs
from pipelines.loras import Loras, weights_of
from pipelines.own import OwnPictures
from pipelines.painter import Painter, Whole, painter
from pipelines.params import Params
from pipelines.prompt import Manner, Prompter
from pipelines.rest import Rest, Settled
from pipelines.reuse import Reuse, told
from pipelines.schedule import SamplerName
from pipelines.spec import Moment, Overtaken, Places, StreamSpec
from pipelines.start import start
from pipelines.state import StreamState
from pipelines.transfer import Pixels, Transfer
from pipelines.unitnets import UnitNets
from pipelines.upgrade import Upgrade

Acting = tuple[tuple[str, float], ...]
"""LoRAs with their weights."""


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
    ) -> None:
        """`size`: (height, width). `sampler`: what `auto` means. `scale`: what a network that takes guidance as an
        input gets while guidance is off. `clock`, in seconds, counts for frames that come without their moment."""
        self.nets, self.size = nets, size
        self.knobs = Knobs(nets, size, sampler, scale)
        self.state = StreamState(*size, nets.device, nets.latent)
        self._clock, self._moment = clock, Moment(clock(), -1)
        self.loras = Loras(nets)
        self.prompter = Prompter(
            nets.text, params.prompt, params.negative, lambda: self._moment.seconds, Manner.of(params), loras=self.loras
        )
        self.unitnets = UnitNets(nets, size, self.knobs, params.units())
        self.image = ImagePrompter(self.knobs.image, self._load_image, nets.device)
        self._model: ModelEntry | None = None
        self.painter: Painter = painter(nets, size)
        self._begun: deque[bool | None] = deque()
        """Of each frame that was begun whether a hint can be looked at; None where the last picture is held."""
        self._down = Transfer(nets.device)
        self._own = OwnPictures(nets.device, self.knobs.units.own)
        self._rest, self._settled = Rest(), Settled()
        self.reuse = Reuse()
        self._last: Pixels | None = None
        self._fades = self._shows = self._captured = self._take = 0
        self._counts: Sequence[float] = [0.0, 0.0, 0.0]
        self._hinted = self._held = False
        self.engine_note = ""
        """Why it paints with the engine that it began with; empty where nothing was to choose."""
        self._upgrade: Upgrade | None = None
        self._threads = torch.get_num_threads()
        self._plain = self._engine = nets
        """What it began with, and what it paints with."""
        self._fast: Nets | None = None
        self._refused: Acting | None = None
        """LoRAs that the faster engine could not paint with."""

    @classmethod
    def load(cls, spec: StreamSpec, params: Params) -> DiffusionStream:
        """Load spec.model and warm it up at its size. Raises engines.errors.ModelError with a sentence."""
        if spec.threads:
            torch.set_num_threads(spec.threads)
        entry = Registry.open().get(spec.model)
        nets, note, upgrade = start(spec)
        stream = cls(nets, (spec.height, spec.width), params, entry.sampler, entry.guidance)
        stream._model = entry
        stream.tune(params)  # the networks that they name are there from the first frame on
        stream.warm_up(params)
        stream.engine_note, stream._upgrade = note, upgrade
        return stream

    def twin(self, params: Params) -> DiffusionStream:
        """Another stream over the same networks, with numbers, ControlNets and a past of its own."""
        nets = dataclasses.replace(self._plain, controlnets={}, hintnets={})
        twin = DiffusionStream(nets, self.size, params, self.knobs.sampler, self.knobs.scale, self._clock)
        twin._model = self._model
        return twin

    def warm_up(self, params: Params, frames: int = 2) -> None:
        """Let every kernel be chosen and every buffer be made, on a grey input, then forget it."""
        grey = np.full((*self.size, 3), 128, np.uint8)
        for _ in range(frames):
            self(grey, params)
        self.reset()

    def __call__(self, pixels: Pixels, params: Params, moment: Moment | None = None) -> Pixels:
        """One frame: uint8 (h, w, 1 | 3 | 4) of any size in, uint8 (height, width, 3) out."""
        self.begin(pixels, params, moment)
        return self.end()

    @property
    def depth(self) -> int:
        return self.painter.depth

    @property
    def in_place(self) -> bool:
        return self.painter.in_place

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
        self.painter.live = True

    def _begin(self, pixels: Pixels, params: Params, moment: Moment | None, whole: Whole | None) -> bool:
        """Whether a picture is painted; else the last one will do."""
        threads = self.nets.threads or self._threads
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        if params.take != self._take:
            self._take = params.take
            self._begin_anew()
        self._ask(params, moment, params.prompt_fade)
        cond = self.prompter.now(self._values(params))
        before = self.unitnets.loaded
        self._follow_units(params)
        acting = self.loras.choose(self.prompter.acting(), weights_of(params.loras()))
        if cond is not None or acting or self.unitnets.loaded != before or params.ip_on:
            self.painter.meet()
        if cond is not None:
            self.knobs.speak(cond)
            self._fades += 1
        self.image.follow(params, self._moment.seconds)
        self._choose_engine(acting, params)
        held, seen = self._counts[0], self.knobs.image.changes
        others = (self._fades, self._shows, held, seen, self.unitnets.loaded, acting)
        rests = self._rest(pixels, params, *others)
        if rests and not self._held and (self._last is not None or self._begun):
            return False
        if not params.bypass:
            self._merge(acting)
        try:
            frame = self.painter.up(pixels, whole)
        except Overtaken:
            self._rest.reset()  # it has seen what nobody will
            raise
        self._choose(params, frame)
        self.knobs.units.beside.collect()
        self.turn(params, pixels.shape, pixels, acting)
        stirred = params.refresh_threshold > 0.0 and self._settled(params, told(self.knobs.mode), *others)
        if stirred and self.state.refresh is not None:
            self.state.refresh.forget()  # what people steer is to be seen at once, everywhere
        self.painter.paint(frame, self.knobs, self.state, self.nets)
        self.unitnets.look_beside(self.state)
        if params.colour_capture != self._captured:
            self._captured = params.colour_capture
            if self._captured:
                self.painter.settle()
                self.state.capture(self.knobs.mode.temporal.colours)
        return True

    def hint(self) -> Pixels | None:
        """What the unit that `hint_preview` names was shown in the last frame, uint8 (height, width, 3); None for none.
        The next frame overwrites it."""
        if not self._hinted:
            return None
        with self.painter.between():
            return self._down.down(self.state.hint, ())[0]

    def turn(self, params: Params, source: tuple[int, ...], pixels: Pixels | None = None, acting: Acting = ()) -> None:
        """Bring numbers, mode and memories to `params`, for an input of shape `source`. Without its `pixels` all levels
        of the denoiser are computed."""
        before = self.knobs.mode
        self.knobs.turn(params, source)
        if pixels is not None:
            others = (acting, self._fades, self.unitnets.loaded, self._counts[0])
            self.knobs.mode = self.reuse.planned(self.knobs.mode, pixels, params, self.nets, *others)
            self.state.deep.make(self.nets, self.knobs.mode)
        held = self.painter.hold(self.knobs, self.state, self.nets)
        self._held = held is not None
        if held is not None:
            self.reuse.missed(self.knobs.mode)
            self.knobs.hold(held, params)
        now = self.knobs.mode
        if now._replace(deep=before.deep) != before or now.looks_back:
            self.painter.settle()
        self.state.follow(before, self.knobs)

    def _choose(self, params: Params, frame: torch.Tensor) -> None:
        """What the units look at, and the image prompt."""
        self._own.choose(params.units(), frame, params.ip_source)
        last = self.state.picture if self._last is not None else None
        if params.ip_source == "previous_output":
            self.painter.settle()
        self.image.look(params, self._own, frame, last, self._moment.seconds)

    def show(self, number: int, pixels: Pixels) -> None:
        """The newest picture of control unit `number`'s own stream, or of the image prompt's (IMAGE), uint8
        (h, w, 1 | 3 | 4); held until the next."""
        with self.painter.between():
            self._own.show(number, pixels)
        self._shows += 1

    def tune(self, params: Params, moment: Moment | None = None, fades: bool = False) -> None:
        """Wait until what the prompt of `params` says now is encoded and its networks are loaded."""
        if self._upgrade is not None:
            self._fast = self._upgrade.poll(painting=False, wanted=params.upgrade) or self._fast
        fade = params.prompt_fade if fades else 0.0
        self._ask(params, moment, fade)
        for _ in range(3):  # a prompt has to be read to know its LoRAs, which have to be there to encode with them
            self.prompter.settle()
            self.loras.settle()
            self._ask(params, self._moment, fade)
        cond = self.prompter.catch_up(self._values(params))
        if cond is not None:
            with self.painter.between():
                self.painter.meet()
                self.knobs.speak(cond)
            self._fades += 1
        self._follow_units(params)
        self.unitnets.settle()
        self.image.follow(params, self._moment.seconds)
        self.image.settle()

    def adopt(self, nets: Nets) -> None:
        """Between two frames: paint with these networks of the same model from now on. All that was is kept."""
        kept = self.nets
        self.painter.meet()
        self.nets = dataclasses.replace(nets, text=kept.text, controlnets=kept.controlnets, hintnets=kept.hintnets)
        self.unitnets.adopt(self.nets)
        self._engine = nets

    def _choose_engine(self, acting: Acting, params: Params) -> None:
        """The faster one, once it is there, if it can paint with the LoRAs that act; pictures as prompts only the
        first can."""
        if self._upgrade is not None:
            self._fast = self._upgrade.poll(painting=True, wanted=params.upgrade) or self._fast
        fast, wanted = self._fast, self._plain
        if (
            fast is not None
            and not params.ip_on
            and (not acting or fast.follow is not None)
            and acting != self._refused
        ):
            wanted = fast
        if wanted is not self._engine:
            self.adopt(wanted)

    def _merge(self, acting: Acting) -> None:
        """Give the denoiser its LoRAs; eager paints where the faster engine can't take them over."""
        self.loras.merge()
        follow, loras = self._engine.follow, self._plain.loras
        if follow is not None and loras is not None and not follow(loras):
            self._refused = acting
            self.adopt(self._plain)
        elif acting != self._refused:
            self._refused = None

    def _ask(self, params: Params, moment: Moment | None, fade: float) -> None:
        self._moment = moment or Moment(self._clock(), self._moment.frame + 1)
        slots = weights_of(params.loras())
        coming = params.coming or NOTHING_COMES
        self.loras.ask([*slots, *self.prompter.named, *coming.loras])
        self.prompter.ask(params.prompt, params.negative, fade, Manner.of(params), params.prompt_line, slots)
        if coming.texts is not None:
            self.prompter.foresee(*coming.texts, slots)

    def _follow_units(self, params: Params) -> None:
        self.unitnets.follow(params.units(), (params.coming or NOTHING_COMES).controlnets)

    def _values(self, params: Params) -> dict[str, float]:
        """What mathematics in a prompt may use besides the prompt's own time."""
        own = {"f": self._moment.frame, "seed": params.seed, "s": params.seed, "strength": params.strength}
        return own | (params.live or {})

    def reset(self) -> None:
        """Forget the past: the next frame is painted as a stream's first."""
        with self.painter.between():
            self.painter.settle()
            self.state.reset()
        self._own.reset()
        self.knobs.units.forget()
        self.reuse.forget()
        self.image.reset()
        self._rest.reset()
        self._last, self._captured = None, 0

    def _begin_anew(self) -> None:
        """Paint on, owing nothing to the frames before; what is on show and what people chose by hand stays."""
        self.painter.settle()
        self.state.begin_anew(self.knobs.mode.temporal.colours)
        self.knobs.units.forget()
        self.reuse.forget()
        self._rest.reset()

    def took(self, params: Params) -> Mapping[str, object]:
        """Implements pipelines.spec.Stream."""
        return {
            **self.prompter.took(),
            "engine": self.nets.described,
            "controlnets": differing(params, self.knobs.units.using),
            "waiting": self.unitnets.waiting(),
            "absent": [name for name in weights_of(params.loras()) if name not in self.loras.here],
        }

    def notes(self) -> dict[str, float | str]:
        """Telemetry; from any thread, waits for nothing."""
        held, cuts, difference = self._counts
        why = (self._upgrade.note if self._upgrade else "") or self.engine_note
        why = "; ".join(filter(None, (why, self.reuse.note)))
        return {
            "device": self.nets.described,
            "engine.failed": (self._upgrade.failed if self._upgrade else "") or self.painter.failed,
            "engine": f"{self.nets.described}; {why}".rstrip("; "),
            "engine.doing": (self._upgrade.doing if self._upgrade else "") or self.painter.doing,
            "engine.share": self._upgrade.share if self._upgrade else 0.0,
            "guard.held": held,
            **memory(self.nets.device),
            "coherence.skipped": float(self._rest.skipped),
            "coherence.change": self._rest.change,
            "coherence.cuts": cuts,
            "coherence.difference": difference,
            **self.prompter.notes(),
            **self.loras.notes(),
            **self.unitnets.notes(),
            **self.image.notes(),
        }

    def _load_image(self, name: str) -> ImageAdapter:
        """On the shelf's thread."""
        if self._plain.load_image is None:
            raise ModelError("this engine reads no pictures as prompts")
        registry = Registry.open()
        entry, model = registry.ipadapter(name), self._model
        if model is not None and entry.family not in ("other", model.family):
            made = {registry.ipadapter(each).family for each in registry.ipadapter_ids()[1:]} - {"other"}
            none = "" if model.family in made else f", and {model.id} has no image adapter"
            raise ModelError(f"it was made for {entry.family} models{none}")
        return self._plain.load_image(entry.file(), entry.encoder())

    def close(self) -> None:
        """Stop the threads. The networks go when the stream does."""
        self.painter.close()
        self.prompter.close()
        self.unitnets.close()
        self.loras.close()
        self.image.close()
