"""The denoiser by torch's own compiler, Inductor, ahead of time and in a process of its own (engines.inductor_build).

What is compiled is one structure of a call after the other: one prompt or two, with what ControlNets add or without,
all levels or the outermost one. A call of another structure, or with a picture as a prompt, is done by the network as
it was, whose weights the compiled code uses where they are: a LoRA that is merged there acts in both.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import torch
from torch import Tensor

from engines.aside import Aside
from engines.base import KERNELS, Build, ControlNet, Nets
from engines.cache import EngineCache
from engines.compiler import missing
from engines.control import EagerControlNet
from engines.eagernet import EagerUNet
from engines.errand import send
from engines.errors import ModelError
from engines.given import Ahead, Deep, ImagePrompt, Known
from engines.inductor_order import (
    CONTROL,
    EVERY,
    FAILED,
    FIRST,
    NOTHING,
    ControlOrder,
    Order,
    Stage,
    Structure,
    attention_of,
    inputs,
    laid_out,
    names_of,
    structures,
)
from engines.inductor_package import Package

PATIENCE_S = 3600.0
"""So long for all structures: what is not compiled by then is not."""
Tell = Callable[[str, float], None]
log = logging.getLogger(__name__)


class Whole:
    """What computes ahead for eager's network, which gives all that is read of the text in one piece. Implements
    engines.given.Ahead."""

    def __init__(self, ahead: Ahead) -> None:
        self.plain, self.pooled, self.guided = ahead, ahead.pooled, ahead.guided
        self.version, self.room, self.times, self.reads = ahead.version, ahead.room, ahead.times, ahead.reads

    def __call__(self, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None, /) -> Known:
        return Known(self.times(t[None], cond, guidance)[0], self.views(self.reads(cond[0])))

    def views(self, reads: Tensor, /) -> tuple[tuple[Tensor, ...], ...]:
        return ((reads,),)

    def parted(self, known: Known) -> Known:
        """As eager's network takes it."""
        reads = known.text[0][0]
        return Known(known.time, self.plain.views(reads) if reads.numel() else ())


class InductorUNet:
    """Implements engines.base.UNet."""

    def __init__(self, plain: EagerUNet, packages: Mapping[Structure, Package], aside: Aside | None = None) -> None:
        """`plain`: does what none of `packages` was compiled for."""
        assert plain.ahead is not None
        self.plain, self.packages, self._aside = plain, packages, aside
        self.spec, self.ahead = plain.spec, Whole(plain.ahead)

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
        known = known or self.ahead(t, cond, guidance)
        part = "whole" if deep is None else "deep" if deep.fresh else "outer"
        package = self.packages.get(Structure(part, len(x), bool(residuals)))  # type: ignore[arg-type]
        if package is not None and image is None:
            given = [x.contiguous(), known.time, known.text[0][0]]
            given += [laid_out(deep.kept)] if deep is not None and not deep.fresh else []
            if residuals and self._aside is not None:
                self._aside.join()  # inside of compiled code no stream can be waited for
            given += [laid_out(part.to(self.plain.dtype)) for part in residuals]
            if package.fits(given):
                out, *state = package(given)
                if deep is not None and deep.fresh:
                    deep.kept.copy_(state[0])
                return out
        return self.plain(x, t, cond, guidance, residuals, image, deep, known=self.ahead.parted(known))


class InductorControlNet:
    """Implements engines.base.ControlNet."""

    def __init__(self, plain: EagerControlNet, packages: Mapping[Structure, Package]) -> None:
        """`plain`: does what none of `packages` was compiled for."""
        assert plain.ahead is not None
        self.plain, self.packages = plain, packages
        self.spec, self.channels, self.embed, self.ahead = plain.spec, plain.channels, plain.embed, Whole(plain.ahead)

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        hint: Tensor,
        outer: bool = False,
        known: Known | None = None,
    ) -> tuple[Tensor, ...]:
        known = known or self.ahead(t, cond)
        package = self.packages.get(Structure("control", len(x)))
        if package is not None and not outer:
            given = [x.contiguous(), known.time, known.text[0][0], laid_out(hint)]
            if package.fits(given):
                return tuple(package(given))
        return self.plain(x, t, cond, hint, outer, self.ahead.parted(known))


def with_inductor(
    nets: Nets, folder: Path, build: Build, wanted: Sequence[Structure] = EVERY, tell: Tell = lambda *_: None,
    cancelled: threading.Event | None = None, controls: Mapping[str, Path] = MappingProxyType({}),
) -> Nets:  # fmt: skip
    """Eager's networks of the model in `folder`, their denoiser compiled: by another process, if it never was.
    `controls`: folders of the ControlNets among them, by id, to be compiled, too. Raises ModelError, a sentence, where
    not even the first structure can be had."""
    names, cache, theirs = _names(nets, wanted), EngineCache("inductor"), dict[str, ControlOrder]()
    for name in controls.keys() & nets.controlnets.keys():
        control = nets.controlnets[name]
        if isinstance(control, EagerControlNet) and control.ahead is not None:
            order = ControlOrder(controls[name], names_of(nets, CONTROL, control))
            theirs[str(order.names)] = order  # many are built alike
    every = [*names.values(), *(name for order in theirs.values() for name in order.names.values())]
    if any(cache.get(name) is None for name in every):
        _send(nets, Order(folder, build, names, [], 1, list(theirs.values())), tell, cancelled or threading.Event())
    return adopted(nets, names, cache)


def adopted(nets: Nets, names: Mapping[str, str], cache: EngineCache) -> Nets:
    """`nets` with what the cache has of these names. Raises ModelError."""
    unet = nets.unet
    assert isinstance(unet, EagerUNet), "only eager's own networks are compiled"
    packages, wrong = dict[Structure, Package](), list[str]()
    for structure in EVERY:
        entry = cache.get(names[structure.name], apart=True) if structure.name in names else None
        if entry is None:
            continue
        if FAILED in entry.notes:
            log.warning("%s: %s", structure.name, entry.notes[FAILED])
            wrong.append(str(entry.notes[FAILED]))
            continue
        try:
            packages[structure] = Package(entry.content, entry.notes, _weights(unet, structure))
        except ModelError:
            cache.drop(names[structure.name])
            raise
    if FIRST not in packages:
        unread = f"inductor can't be had: what it compiled could not be read back from {cache.folder}"
        raise ModelError(wrong[0] if wrong else unread)
    found = InductorUNet(unet, packages, nets.aside)
    _warm(nets, packages)
    load = nets.load_control

    def load_control(folder: Path) -> ControlNet:
        assert load is not None, "the engine eager runs ControlNets"
        return controlled(nets, load(folder), cache)

    return replace(
        nets,
        unet=found,
        load_control=load_control if load is not None else None,
        controlnets={},
        described=f"{nets.described}, {KERNELS['inductor']}",
    )


def controlled(nets: Nets, control: ControlNet, cache: EngineCache) -> ControlNet:
    """A ControlNet of eager's with what the cache has for those of its architecture; as it is where that is nothing."""
    assert isinstance(control, EagerControlNet)
    if control.ahead is None:
        return control
    names, packages = names_of(nets, CONTROL, control), dict[Structure, Package]()
    weights = {f"net.{name}": weight for name, weight in control.net.state_dict().items()}
    for structure in CONTROL:
        entry = cache.get(names[structure.name], apart=True)
        if entry is None or FAILED in entry.notes:
            continue
        packages[structure] = Package(entry.content, entry.notes, weights)
    _warm(nets, packages, control)
    return InductorControlNet(control, packages) if packages else control


def here(nets: Nets, wanted: Sequence[Structure], cache: EngineCache) -> Nets:
    """The same, compiled in this process, where nobody waits for frames."""
    from engines.inductor_build import carry_out, jobs

    names = _names(nets, wanted)
    carry_out(nets, jobs(names), cache)
    return adopted(nets, names, cache)


def _names(nets: Nets, wanted: Sequence[Structure]) -> dict[str, str]:
    if why := missing(nets.device.type == "cuda"):
        raise ModelError(f"inductor can't be had: {why}")
    return names_of(nets, [each for each in structures(nets) if each in wanted])


def _send(nets: Nets, order: Order, tell: Tell, cancelled: threading.Event) -> None:
    """Have it compiled by a process of its own. A structure that failed there is logged, and done without."""
    assert isinstance(nets.unet, EagerUNet)
    order = msgspec.structs.replace(order, attention=attention_of(nets.unet), threads=torch.get_num_threads())

    def hear(line: bytes) -> None:
        stage = msgspec.json.decode(line, type=Stage)
        tell(f"building inductor: {stage.structure}", stage.share)

    ended = send("engines.inductor_build", msgspec.json.encode(order, enc_hook=str), hear, cancelled, PATIENCE_S)
    if cancelled.is_set():
        raise ModelError("the build was called off")
    if ended.code == 1:
        raise ModelError(ended.said)
    if ended.code:
        said = f"inductor's compiler ended its process ({ended.code}: {ended.said})"
        log.warning(said)
        if EngineCache("inductor").get(order.names[FIRST.name]) is None:
            raise ModelError(said)


def _weights(unet: EagerUNet, structure: Structure) -> dict[str, Tensor]:
    net: Any = unet.outer if structure.part == "outer" else unet.net
    return {NOTHING: unet.nothing, **{f"net.{name}": weight for name, weight in net.state_dict().items()}}


@torch.inference_mode()
def _warm(nets: Nets, packages: Mapping[Structure, Package], control: EagerControlNet | None = None) -> None:
    """Let each run once, so that its kernels are there before a frame is recorded."""
    for structure, package in packages.items():
        package(list(inputs(nets, structure, control).values()))
