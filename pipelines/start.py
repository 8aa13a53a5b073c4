"""The networks that a stream begins with. With `auto` those are always eager's, which are there first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from engines import device as devices
from engines.base import Build, Nets
from engines.compiled import check_card, compiled
from engines.eager import EagerEngine
from engines.eagernet import EagerUNet
from engines.errors import first_line
from engines.registry import Registry
from pipelines import choose
from pipelines.choose import Card, build_of
from pipelines.ladder import Rung, Verdict
from pipelines.spec import StreamSpec
from pipelines.upgrade import Tell, Upgrade


class Measured:
    """What `auto` knows, or has measured. Implements pipelines.upgrade.Choice."""

    def __init__(self, spec: StreamSpec, card: Card | None) -> None:
        self._spec, self._card = spec, card

    def recall(self) -> Verdict | None:
        return choose.recall(self._spec, self._card)

    def measure(self, tell: Tell, cancelled: threading.Event, /) -> Verdict:
        return choose.measure(self._spec, self._card, tell, cancelled)

    def loaded(self, verdict: Verdict, /) -> None:
        """It was remembered when it was measured."""


class Asked:
    """What was asked for by name: nothing to measure, but a standby builds nothing that the painter is building.
    Implements pipelines.upgrade.Choice."""

    def __init__(self, spec: StreamSpec, card: Card | None) -> None:
        self._spec, self._card = spec, card
        self._verdict = Verdict(choose.rungs(spec, card)[0], f"{spec.engine} was asked for")

    def recall(self) -> Verdict | None:
        return choose.recall(self._spec, self._card)

    def measure(self, tell: Tell, cancelled: threading.Event, /) -> Verdict:
        return self._verdict

    def loaded(self, verdict: Verdict, /) -> None:
        choose.keep(self._spec, verdict, self._card)


class Rungs:
    """Loads one rung or another of the same spec. Implements pipelines.upgrade.Load."""

    def __init__(self, spec: StreamSpec, plain: Nets) -> None:
        """`plain`: eager's networks, which the stream began with."""
        self._spec, self._plain = spec, plain

    def __call__(self, rung: Rung, tell: Tell, cancelled: threading.Event, /) -> Nets | None:
        folder, build = build_of(msgspec.structs.replace(self._spec, dtype=rung.dtype))
        if rung.engine == "openvino":
            from engines.openvino import OpenvinoEngine

            nets = OpenvinoEngine().load(folder, build)
        elif rung.engine == "tensorrt":
            from engines.tensorrt import TensorrtEngine

            engine = TensorrtEngine(
                tell=lambda stage: tell(f"building {rung.name}: {stage.part}", stage.share), cancelled=cancelled
            )
            nets = engine.load(folder, build)
        else:
            dtype = devices.choose_dtype(rung.dtype, self._plain.device)
            if dtype == self._plain.dtype:  # the same weights
                summed = f", {rung.dtype}" if rung.dtype == "fp16-accumulate" else ""
                nets = replace(self._plain, described=f"{self._plain.described}{summed}", follow=lambda _: True)
            else:
                nets = EagerEngine().load(folder, build)
                nets = nets if self._plain.machine is None else compiled(nets, self._plain.machine)
            nets = other_kernels(nets, rung, lambda nets: inductor(nets, folder, build, tell, cancelled))
        warm(nets, build)
        return nets


def start(spec: StreamSpec) -> tuple[Nets, str, Upgrade | None]:
    """Networks for `spec`, why these, and what may replace them later. Raises ModelError with a sentence."""
    folder, build = build_of(spec)
    if spec.engine == "compiled":
        check_card(spec.device)
    if spec.engine == "openvino" or (spec.engine == "auto" and spec.device == "intel"):
        from engines.openvino import OpenvinoEngine

        nets = OpenvinoEngine().load(folder, build)
        warm(nets, build)
        return nets, "", None
    own = "auto" if spec.dtype in ("fp8", "int8") else spec.dtype  # what eager computes in where it can't in that
    plain = EagerEngine().load(folder, replace(build, dtype=own))
    if spec.engine == "eager":
        return plain, "", None
    plain, wrong = recorded(plain)
    if spec.engine == "compiled":
        return plain, wrong, None
    card = _card(plain.device)
    if spec.engine == "tensorrt":
        return plain, "", Upgrade(Rungs(spec, plain), Asked(spec, card), after=0.0)
    if not choose.rungs(spec, card):
        return plain, choose.unfit(spec) if card is None else wrong, None
    verdict = choose.recall(spec, card)
    if verdict is not None and verdict.rung == Rung("eager", spec.dtype):
        return plain, "; ".join(filter(None, (verdict.why, wrong))), None
    return plain, wrong, Upgrade(Rungs(spec, plain), Measured(spec, card))


def other_kernels(nets: Nets, rung: Rung, compile: Callable[[Nets], Nets]) -> Nets:
    """`nets` with the kernels of `rung`. `compile`: has torch's compiler make them. Raises ModelError where they can't
    be had."""
    if rung.kernels == "" or rung.kernels == "kept":
        return nets
    if rung.kernels == "inductor":
        return compile(nets)
    from engines.kernels import with_kernels

    return with_kernels(nets, rung.kernels)


def inductor(
    nets: Nets, folder: Path, build: Build, tell: Tell, cancelled: threading.Event | None, first: bool = False
) -> Nets:
    """`nets` with a denoiser that torch's compiler makes, or has made. `first`: what is measured of it is enough."""
    from engines.inductor import with_inductor
    from engines.inductor_order import EVERY, FIRST

    names = Registry.open()
    controls = {} if first else {name: names.controlnet(name).folder() for name in list(nets.controlnets)}
    return with_inductor(nets, folder, build, (FIRST,) if first else EVERY, tell, cancelled, controls)


def recorded(nets: Nets) -> tuple[Nets, str]:
    """`nets` with their frames recorded as graphs where they are on a card; as they were, and why, where that fails."""
    if nets.device.type != "cuda":
        return nets, ""
    from engines.cuda_machine import CudaMachine

    try:
        machine = CudaMachine(nets.device)
        return compiled(nets, machine) if isinstance(nets.unet, EagerUNet) else replace(nets, machine=machine), ""
    except RuntimeError as error:
        return nets, f"compiled failed, eager goes on: {first_line(error)}"


def _card(device: torch.device) -> Card | None:
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return Card(found.name, (found.major, found.minor))


@torch.inference_mode()
def warm(nets: Nets, build: Build) -> None:
    """Let every network run once, so that its first frame is as quick as its second."""
    image = torch.zeros(1, 3, build.height, build.width, device=nets.device)
    cond = [torch.zeros(spec.shape, dtype=nets.dtype, device=nets.device) for spec in nets.text.spec.outputs]
    x = nets.encode(image.contiguous(memory_format=torch.channels_last))
    nets.decode(nets.unet(x, torch.tensor(500.0, device=nets.device), cond))
