"""What torch's compiler, Inductor, is to make of a denoiser: decided here once, so that whoever asks and whoever builds
agree. What it makes is code alone and no weight, so that nothing here depends on those."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from engines.base import Build, Nets
from engines.cache import name_of
from engines.compiler import version_of
from engines.control import EagerControlNet
from engines.eagernet import EagerUNet
from engines.errors import ModelError
from engines.given import ahead_of

FORMAT = 1
"""Of what is in the cache: another number for other graphs."""
OPTIONS: dict[str, Any] = {
    "aot_inductor.package_constants_in_so": False,
    "always_keep_tensor_constants": True,  # else biases of up to 8 numbers would be written into the code
    "aot_inductor.use_runtime_constant_folding": False,
    "freezing": False,
    "triton.cudagraphs": False,  # whole frames are recorded by us
}
TUNED: dict[str, Any] = {"max_autotune": True, "coordinate_descent_tuning": True}
"""On a card: kernels are chosen by measurement."""
Part = Literal["whole", "deep", "outer", "control"]


class Structure(NamedTuple):
    """What a call of the denoiser, or of a ControlNet, is made of."""

    part: Part = "whole"
    """`deep`: the whole denoiser, which also gives what its outermost level is handed; `outer`: that level alone."""
    rows: int = 1
    """One prompt, or two for guidance."""
    adds: bool = False
    """Whether ControlNets' residuals come in."""

    @property
    def name(self) -> str:
        return f"{self.part}-{self.rows}{'-adds' if self.adds else ''}"


FAILED = "failed"
"""Under this name the cache's notes say why a structure could not be compiled."""
NOTHING = "nothing"
"""The one weight that no network has: see EagerUNet."""
FIRST = Structure()
"""The one that is measured."""
_PARTS: tuple[tuple[Part, ...], ...] = (("whole",), ("deep", "outer"))
EVERY = tuple(
    Structure(part, rows, adds) for parts in _PARTS for adds in (False, True) for rows in (1, 2) for part in parts
)
"""Of a denoiser. What is asked for most comes first."""
CONTROL = Structure("control", 1), Structure("control", 2)
"""Of a ControlNet."""
_ASIDE = ("conditioning_channels", "controlnet_conditioning_channel_order", "conditioning_embedding_out_channels")
"""Of a ControlNet's config: what is done to its hint before."""


class ControlOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same for a ControlNet."""

    folder: Path
    names: dict[str, str]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to compile."""

    folder: Path
    build: Build
    names: dict[str, str]
    """Under which name in the cache each structure goes."""
    attention: list[str]
    """torch's attention kernels, the best first; empty for torch's own order."""
    threads: int
    """torch's, for a processor."""
    controls: list[ControlOrder] = []


class Stage(msgspec.Struct, frozen=True):
    """How far an order is."""

    structure: str
    share: float
    """Of the whole order, 0..1."""


def structures(nets: Nets) -> tuple[Structure, ...]:
    """Those that calls of this denoiser can have."""
    return tuple(each for each in EVERY if each.part == "whole" or nets.outer is not None)


def names_of(nets: Nets, wanted: Sequence[Structure], control: EagerControlNet | None = None) -> dict[str, str]:
    """Names in the cache. Another architecture, size, precision, machine or torch: other names. Not so other weights.
    `control`: whose calls are meant. Raises ModelError for a network that can't be compiled so."""
    unet = nets.unet
    assert isinstance(unet, EagerUNet), "only eager's own networks are compiled"
    net, ahead = (unet.net, unet.ahead) if control is None else (control.net, control.ahead)
    if ahead is None:
        raise ModelError("inductor can't be had: this network is built in a way that it was not made for")
    cond = [[spec.name, list(spec.shape)] for spec in nets.text.spec.outputs]
    config = {key: value for key, value in dict(net.config).items() if not key.startswith("_") and key not in _ASIDE}
    weights = [[name, kind(weight)] for name, weight in net.state_dict().items()]
    facts = [
        weights, json.dumps(config, sort_keys=True, default=str), str(nets.dtype), nets.latent, cond, nets.residuals,
        attention_of(unet), _made_by(), _machine(nets.device), sorted(options(nets.device).items()),
    ]  # fmt: skip
    return {each.name: name_of(FORMAT, each, facts) for each in wanted}


def options(device: torch.device) -> dict[str, Any]:
    """What Inductor is told."""
    return {**OPTIONS, **(TUNED if device.type == "cuda" else {})}


def inputs(nets: Nets, structure: Structure, control: EagerControlNet | None = None) -> dict[str, Tensor]:
    """Examples, random, as a frame has them. `control`: whose calls are meant."""
    rows, ahead = structure.rows, ahead_of(nets.unet if control is None else control)
    assert ahead is not None
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(nets.device)

    times, texts = ahead.room(1, nets.text.spec.outputs[0].shape[1])
    found = {
        "x": noise(rows, *nets.latent),
        "time": (0.3 * noise(rows if ahead.pooled else 1, *times.shape[2:])).to(nets.dtype),
        "text": noise(rows, *texts.shape[1:]).to(nets.dtype),
    }
    if control is not None:
        found["hint"] = laid_out(noise(*nets.residuals[0])[None].to(nets.dtype))
    count = len(nets.residuals) if structure.adds else 0
    if structure.part == "outer":
        assert nets.outer is not None
        found["state"] = laid_out(noise(rows, *nets.outer.state).to(nets.dtype))
        count = min(count, nets.outer.residuals)
    for i, shape in enumerate(nets.residuals[:count]):
        found[f"residual{i}"] = laid_out(0.1 * noise(rows, *shape).to(nets.dtype))
    return found


def attention_of(unet: EagerUNet) -> list[str]:
    return [kernel.name for kernel in unet.attention]


def laid_out(x: Tensor) -> Tensor:
    """As a package takes pictures: residuals and features with the channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def kind(x: Tensor) -> list[Any]:
    """All that compiled code takes for granted of a tensor: shape, strides where they mean anything, type."""
    strides = [stride if size > 1 else 0 for size, stride in zip(x.shape, x.stride(), strict=True)]
    return [list(x.shape), strides, str(x.dtype).removeprefix("torch.")]


def _made_by() -> list[str]:
    return [*map(version_of, ("torch", "diffusers", "triton")), str(torch.version.cuda), platform.machine()]


def _machine(device: torch.device) -> list[object]:
    """The processor counts on a card too: what launches kernels is compiled for it alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        told = {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}
        processor = [told.get(key, "") for key in ("model name", "flags", "Features")]
    except OSError:
        processor = [platform.processor()]
    if device.type != "cuda":
        return [device.type, processor, torch.get_num_threads()]
    found = torch.cuda.get_device_properties(device)
    summed = bool(getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", False))
    return [found.name, found.major, found.minor, summed, processor]
