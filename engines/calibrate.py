"""Calibration: what the steps of 8 bits are measured on, pictures, prompts and noise as a show has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from engines.base import TensorSpec, TextNet
from engines.eager import Modules, coders
from engines.given import Ahead
from engines.graphs import codec_graphs, told_ahead, unet_graph
from engines.quantise import Range, measured
from engines.weights import read_json

PROMPTS = ("", "a portrait, oil on canvas", "neon city at night")
"""What is measured under."""
LAST = 4
"""So many layers of a denoiser, those that run last, are left as they are: a residual block's three, and the end."""
NOISES = (0.02, 0.3, 0.75, 1.0)
"""Where on the way from picture to noise."""


class Calibration:
    """A denoiser's calibration set: pictures, noised, under prompts."""

    @torch.no_grad()
    def __init__(
        self, found: Modules, specs: Sequence[TensorSpec], text: TextNet, folder: Path, size: tuple[int, int],
        ahead: Ahead | None = None,
    ) -> None:  # fmt: skip
        """`specs`: what a prompt is to the denoiser of the model in `folder`. `ahead`: as for unet_graph."""
        self._found = found
        self._graph = unet_graph(found, specs, ahead)
        encode = codec_graphs(found, size)["encode"].module
        latents = [encode(picture) for picture in pictures(size)]
        generator, alphas = torch.Generator().manual_seed(3), _alphas(folder)
        self._given: list[list[Tensor]] = []
        for n, prompt in enumerate(PROMPTS):
            cond = tuple(part.to(spec.dtype) for part, spec in zip(text(prompt).cond, specs, strict=True))
            for m, noise in enumerate(NOISES):
                at, x0 = round(noise * (len(alphas) - 1)), latents[(n + m) % len(latents)]
                eps = torch.randn(x0.shape, generator=generator)
                x = alphas[at].sqrt() * x0 + (1 - alphas[at]).sqrt() * eps
                given = {**self._graph.inputs, "x": x, **_told(specs, torch.full((1,), float(at)), cond, ahead)}
                given |= {name: torch.zeros_like(z) for name, z in given.items() if name.startswith("residual")}
                self._given.append([z.to(self._graph.inputs[name].dtype) for name, z in given.items()])

    @torch.no_grad()
    def __call__(self) -> None:
        for given in self._given:
            self._graph.module(*given)

    def measure(self) -> dict[str, Range]:
        """What comes into each of its layers, by path, but for the last ones: what they get wrong nobody puts right."""
        with measured(self._found.unet) as ranges:
            self()
        return dict(list(ranges.items())[:-LAST])


def codec(found: Modules, size: tuple[int, int]) -> dict[str, Range]:
    """What comes into each layer of an autoencoder, both ways, in the order in which they are run; by path in it. Those
    through which pictures come and go are left out: there each bit is seen."""
    with measured(found.vae) as ranges:
        both_ways(found, size)
    inner = dict[str, Range]()
    for half in ("encoder", "decoder"):
        inner |= dict([(path, came) for path, came in ranges.items() if path.startswith(half)][1:-1])
    return inner


@torch.no_grad()
def both_ways(found: Modules, size: tuple[int, int]) -> None:
    """Pictures through the autoencoder and back."""
    encode, decode = coders(found.vae)
    for picture in pictures(size):
        decode(encode(picture.to(found.vae.dtype)))


def pictures(size: tuple[int, int]) -> list[Tensor]:
    """Soft waves of all sizes, sharp edges in full colours, and noise: fp32 [1, 3, H, W] in [-1, 1] each."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size[0]), torch.linspace(0, 1, size[1]), indexing="ij")
    waves = [torch.sin((3 + 9 * i) * x + (5 + 7 * i) * y + i) for i in range(6)]
    soft = torch.stack([sum(waves[i::3], torch.zeros(())) / 2 for i in range(3)])[None]
    hard = torch.stack([torch.sin((20 - 5 * i) * x * (1 + y) + i).sign() for i in range(3)])[None]
    rough = 0.7 * soft + torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(5)) * 0.1
    return [soft, hard, rough.clamp(-1.0, 1.0)]


def _told(specs: Sequence[TensorSpec], t: Tensor, cond: tuple[Tensor, ...], ahead: Ahead | None) -> dict[str, Tensor]:
    """Of one step, as the graph takes it."""
    if ahead is not None:
        return told_ahead(ahead, t, cond)
    return {"t": t, **{spec.name: part for spec, part in zip(specs, cond, strict=True)}}


def _alphas(folder: Path) -> Tensor:
    """The cumulated alphas of the model's own training."""
    config = read_json(folder / "scheduler" / "scheduler_config.json", "scheduler_config.json")
    first, last = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
    count = int(config.get("num_train_timesteps", 1000))
    if config.get("beta_schedule", "scaled_linear") == "linear":
        betas = torch.linspace(first, last, count)
    else:
        betas = torch.linspace(first**0.5, last**0.5, count) ** 2
    return (1 - betas).cumprod(0)
