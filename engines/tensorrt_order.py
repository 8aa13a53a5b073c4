"""What is to be compiled for a card, and how: decided here once, so that whoever asks and whoever builds agree."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor

from engines.base import Build, TensorSpec
from engines.cache import name_of, weights_of
from engines.errors import ModelError
from engines.tensorrt_api import Card, check

FORMAT = 2
"""Of what is in the cache: another number for other graphs."""
Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8"]
BASE: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float16,
    "int8": torch.float16,
}
"""What is computed in where no layer is rounded to 8 bits."""
FROM = {"bf16": (8, 0), "fp8": (8, 9)}
"""Compute capability that each needs."""
AHEAD = "ahead"
"""The part of an order that is compiled by nobody: what computes ahead for the others (engines.aheadfile)."""
Shape = tuple[int, int, int]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to compile."""

    folder: Path
    """A model's, or with `latent` a ControlNet's."""
    build: Build
    precision: Precision
    names: dict[str, str]
    """Under which name in the cache each network goes."""
    cond: list[tuple[str, list[int]]]
    """What a prompt is: name and shape."""
    latent: Shape | None = None
    residuals: list[Shape] = []

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """`cond` as the networks take it."""
        return tuple(TensorSpec(name, tuple(shape), BASE[self.precision]) for name, shape in self.cond)


def precision_of(build: Build, card: Card) -> Precision:
    """What is to be computed in. Raises ModelError for what the card does not multiply."""
    if build.dtype == "fp16-accumulate":
        raise ModelError("TensorRT decides by itself how it adds up: fp16-accumulate is for the engine eager")
    wanted: Precision = "fp16" if build.dtype == "auto" else build.dtype
    if card.capability < FROM.get(wanted, (0, 0)):
        major, minor = FROM[wanted]
        raise ModelError(f"{card.name} does not multiply {wanted}: that begins with compute capability {major}.{minor}")
    return wanted


def model_names(
    folder: Path, build: Build, precision: Precision, card: Card, cond: list[tuple[str, list[int]]]
) -> dict[str, str]:
    """Names in the cache. Other weights, sizes, precision, TensorRT, driver or card: other names."""
    vae = build.tiny_vae if build.vae == "tiny" and build.tiny_vae is not None else folder / "vae"
    facts = [check(), precision, card.facts(), build.height, build.width, build.vae, cond]
    loras = [[weights_of([path]), weight] for path, weight in build.loras]
    codec = weights_of([folder / "vae", vae])
    unet = weights_of([folder / "unet"])
    return {
        "unet": name_of(FORMAT, "unet", facts, unet, loras),
        AHEAD: name_of(FORMAT, AHEAD, facts, unet, loras),
        "encode": name_of(FORMAT, "encode", facts, codec),
        "decode": name_of(FORMAT, "decode", facts, codec),
    }


def control_names(order: Order, card: Card) -> dict[str, str]:
    """The same for a ControlNet."""
    facts = [check(), order.precision, card.facts(), order.cond, order.latent, order.residuals]
    return {part: name_of(FORMAT, part, facts, weights_of([order.folder])) for part in ("embed", "control", AHEAD)}


def batched(part: str, inputs: dict[str, Tensor]) -> tuple[str, ...]:
    """Inputs of a network that have a row for each prompt: one, or two for guidance by a doubled batch."""
    if part not in ("unet", "control"):
        return ()
    return tuple(name for name in inputs if name not in ("t", "time", "guidance", "hint"))
