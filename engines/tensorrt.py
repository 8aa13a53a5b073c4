"""The engine `tensorrt`: NVIDIA's compiler, for NVIDIA's cards. Pictures as eager's, within the gate.

The UNet, the autoencoder and ControlNets are compiled once for each model, size, precision, card and driver
(engines.tensorrt_build), in a process of its own, and read from the sealed cache from then on. Text is eager's. Every
network runs on torch's stream, over memory of ours, so that a whole frame can be captured with it inside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from engines.base import Adapters, Build, Nets, NetSpec, TensorSpec
from engines.cache import EngineCache
from engines.eager import load_text, sentences, unet_spec
from engines.errand import send
from engines.errors import ModelError
from engines.given import Ahead, Deep, ImagePrompt, Known
from engines.lora import Adapters as EagerAdapters
from engines.programnet import ProgramNet
from engines.tensorrt_api import Card, check, this_card
from engines.tensorrt_build import Stage, carry_out
from engines.tensorrt_order import AHEAD, BASE, Order, Precision, control_names, model_names, precision_of
from engines.tensorrt_program import Program, Refit
from engines.text import ClipText
from engines.weights import CLASSES, check_folder, check_net, read_json

if TYPE_CHECKING:
    from engines.aheadfile import AheadAlone

Tell = Callable[[Stage], None]


class Found(NamedTuple):
    """What the cache had."""

    programs: dict[str, Program]
    notes: dict[str, dict[str, Any]]
    ahead: AheadAlone | None


class TensorrtUNet:
    """Implements engines.base.UNet."""

    def __init__(self, program: Program, spec: NetSpec, guided: bool, ahead: Ahead | None = None) -> None:
        """`ahead`: where it is compiled to be given what that computes."""
        self._program, self.spec, self._guided, self.ahead = program, spec, guided, ahead
        self._off = torch.ones(1, device=spec.device)

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (),
        image: ImagePrompt | None = None,
        deep: Deep | None = None,
        known: Known | None = None,
    ) -> Tensor:
        assert image is None, "pictures as prompts are the eager engine's: this one loads no adapters"
        if self.ahead is not None:
            return self._program(x, *_told(known or self.ahead(t, cond, guidance)), *residuals)[0]
        more = (self._off if guidance is None else guidance,) if self._guided else ()
        return self._program(x, t, *cond, *more, *residuals)[0]


class TensorrtControlNet:
    """Implements engines.base.ControlNet."""

    def __init__(
        self, embed: Program, control: Program, spec: NetSpec, channels: int, ahead: Ahead | None = None
    ) -> None:
        """`ahead`: as the denoiser's."""
        self._embed, self._control, self.spec, self.channels = embed, control, spec, channels
        self.ahead = ahead

    def embed(self, hint: Tensor) -> Tensor:
        return self._embed(hint)[0]

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        hint: Tensor,
        outer: bool = False,
        known: Known | None = None,
    ) -> tuple[Tensor, ...]:
        told = [t, *cond] if self.ahead is None else _told(known or self.ahead(t, cond))
        return tuple(self._control(x, *told, hint))


def _told(known: Known) -> list[Tensor]:
    """As the graphs take it."""
    return [known.time, *(part for parts in known.text for part in parts)]


class Follow:
    """Has an engine's denoiser take over what LoRAs made of eager's. Between two frames."""

    def __init__(self, refit: Refit, ahead: AheadAlone | None = None) -> None:
        """`ahead`: has the weights that the engine lacks."""
        self._refit, self._ahead = refit, ahead
        self._seen = 0
        self._patched: set[str] = set()
        """Layers that are not as they were built."""

    def __call__(self, loras: Adapters) -> bool:
        """Whether it paints with the weights of `loras` now; where not, who has these does."""
        if not isinstance(loras, EagerAdapters):
            return False
        merger = loras.unet
        if merger.merges == self._seen:
            return True
        patched = set(merger.patched)
        mine = self._ahead.layers.keys() if self._ahead is not None else set[str]()
        if not self._refit.covers((patched | self._patched) - mine):
            return False
        self._patched |= patched
        try:
            if self._patched - mine:
                self._refit(self._patched - mine, merger.layers.__getitem__)
        except RuntimeError:  # it was logged by TensorRT
            return False
        if self._ahead is not None:
            self._ahead.take({path: merger.layers[path] for path in self._patched & mine})
        self._seen, self._patched = merger.merges, patched
        return True


class TensorrtEngine:
    """Implements engines.base.Engine."""

    def __init__(
        self,
        here: bool = False,
        cache: EngineCache | None = None,
        card: Card | None = None,
        tell: Tell = lambda _: None,
        cancelled: threading.Event | None = None,
    ) -> None:
        """`here`: compile in this process, where nobody waits for frames. `cache`, `card`: the user's own if None.
        `tell`: told how far a build is; it ends early once `cancelled` is set."""
        self._here, self._card, self._tell = here, card, tell
        self._cancelled = cancelled or threading.Event()
        self._cache = cache or EngineCache("tensorrt")

    @torch.inference_mode()
    def load(self, folder: Path, build: Build) -> Nets:
        """Networks of the model in `folder`, compiled first if they never were. Raises ModelError with a sentence."""
        check()
        checked, card = check_folder(folder), self._card or this_card()
        precision = precision_of(build, card)
        with sentences(folder):
            text = load_text(folder, build, checked.variants, card.device, BASE[precision])
        cond = _shapes(text)
        names = model_names(folder, build, precision, card, cond)
        found = self._programs(Order(folder, build, precision, names, cond), card)
        return self._nets(folder, build, precision, card, text, found)

    def _programs(self, order: Order, card: Card) -> Found:
        """The programs of an order, compiled now where they are not in the cache, or are not taken back."""
        found = self._revived(order, card)
        if found is None:
            try:
                carry_out(order, card, self._cache, self._tell, self._cancelled) if self._here else self._send(order)
            except OSError as error:
                where = self._cache.folder
                raise ModelError(f"TensorRT's networks can't be kept in {where}: {error.strerror or error}") from error
            found = self._revived(order, card)
        if found is None:
            raise ModelError(f"TensorRT's networks could not be read back from {self._cache.folder}")
        return found

    def _send(self, order: Order) -> None:
        """Have it compiled by a process of its own."""

        def hear(line: bytes) -> None:
            self._tell(msgspec.json.decode(line, type=Stage))

        ended = send("engines.tensorrt_build", msgspec.json.encode(order, enc_hook=str), hear, self._cancelled)
        if ended.code:
            raise ModelError(
                ended.said if ended.code == 1 else f"TensorRT's builder ended its process ({ended.code}: {ended.said})"
            )

    def _revived(self, order: Order, card: Card) -> Found | None:
        """The programs, if all are in the cache. What TensorRT does not take back is thrown out of it."""
        from engines.aheadfile import unpack

        found = Found({}, {}, None)
        for part, name in order.names.items():
            entry = self._cache.get(name)
            if entry is None:
                continue
            try:
                if part == AHEAD:
                    found = found._replace(ahead=unpack(entry.notes, entry.content, card.device))
                else:
                    found.programs[part] = Program(entry, card.device)
                found.notes[part] = entry.notes
            except ModelError:  # of another build of the same version; it was logged
                self._cache.drop(name)
        if len(found.notes) < len(order.names):
            return None
        for program in found.programs.values():
            program.warm()
        return found

    def _nets(self, folder: Path, build: Build, precision: Precision, card: Card, text: ClipText, found: Found) -> Nets:
        notes, programs, device = found.notes["unet"], found.programs, card.device
        channels, height, width = notes["latent"]
        latent = channels, height, width
        picture = TensorSpec("image", (1, 3, build.height, build.width), torch.float32)
        hidden = TensorSpec("latent", (1, *latent), torch.float32)
        residuals = tuple((c, h, w) for c, h, w in notes["residuals"])
        weights = {name: (path, way) for name, (path, way) in notes["weights"].items()}

        def control(folder: Path) -> TensorrtControlNet:
            return self._control(folder, build, precision, card, text, latent, residuals)

        return Nets(
            unet=TensorrtUNet(programs["unet"], unet_spec(latent, text, device), notes["guided"], found.ahead),
            encode=ProgramNet(programs["encode"], NetSpec((picture,), (hidden,), device)),
            decode=ProgramNet(programs["decode"], NetSpec((hidden,), (picture,), device)),
            text=text,
            scheduler=read_json(folder / "scheduler" / "scheduler_config.json", "scheduler_config.json"),
            latent=latent,
            takes_guidance=notes["guided"],
            device=device,
            dtype=BASE[precision],
            described=f"tensorrt {precision}, {notes['kind']}",
            residuals=residuals,
            load_control=control,
            follow=Follow(Refit(programs["unet"], weights, device), found.ahead) if weights else None,
        )

    @torch.inference_mode()
    def _control(
        self, folder: Path, build: Build, precision: Precision, card: Card, text: ClipText,
        latent: tuple[int, int, int], residuals: tuple[tuple[int, int, int], ...],
    ) -> TensorrtControlNet:  # fmt: skip
        check_net(folder, CLASSES["controlnet"])
        base: Precision = "fp16" if precision in ("fp8", "int8") else precision
        order = Order(folder, replace(build, loras=()), base, {}, _shapes(text), latent, list(residuals))
        found = self._programs(msgspec.structs.replace(order, names=control_names(order, card)), card)
        x, t, *cond = unet_spec(latent, text, card.device).inputs
        outputs = tuple(TensorSpec(f"residual{i}", (1, *shape), BASE[base]) for i, shape in enumerate(residuals))
        channels = int(found.notes["control"]["channels"])
        spec = NetSpec((x, t, *cond), outputs, card.device)
        return TensorrtControlNet(found.programs["embed"], found.programs["control"], spec, channels, found.ahead)


def _shapes(text: ClipText) -> list[tuple[str, list[int]]]:
    return [(spec.name, list(spec.shape)) for spec in text.spec.outputs]
