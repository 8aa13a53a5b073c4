"""A model's networks as graphs: tensors in, tensors out, in a fixed order and under fixed names, for whoever compiles.

What eager computes around its networks (the sinusoids of a guidance scale, an autoencoder's scale) is inside. What can
be computed ahead (engines.ahead) is outside where that is asked for: then it comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engines.base import NetSpec, TensorSpec
from engines.control import EagerControlNet, residual_shapes
from engines.eager import Modules, coders
from engines.eagernet import EagerUNet
from engines.fold import fold_codec
from engines.given import Ahead, Around, Known
from engines.outer import outer_of
from engines.text import ClipText


class Graph(NamedTuple):
    """One network."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """An example of each by name, in order; those that a network hands on in that network's precision, else fp32."""
    outputs: tuple[str, ...]


class Told(NamedTuple):
    """What a network is told besides the picture."""

    t: Tensor
    cond: tuple[Tensor, ...]
    guidance: Tensor | None
    known: Known | None


Sort = Callable[[Tensor, tuple[Tensor, ...]], tuple[Told, tuple[Tensor, ...]]]
"""The inputs behind the picture to what they tell, and those that come after."""


class Asking:
    """Step and prompt come in: t [1], hidden states [1, L, D], then, as the model has them, pooled [1, P], size [1, 6],
    guidance [1]."""

    def __init__(self, cond: int, guided: bool) -> None:
        """`cond`: how many tensors a prompt is."""
        self._cond, self._guided = cond, guided

    def __call__(self, t: Tensor, more: tuple[Tensor, ...]) -> tuple[Told, tuple[Tensor, ...]]:
        cond, rest = more[: self._cond], more[self._cond :]
        return (Told(t, cond, rest[0], None), rest[1:]) if self._guided else (Told(t, cond, None, None), rest)


class Knowing:
    """What was computed ahead comes in: of the time [1, sum], `pooled` where the prompt is part of it; then, if any of
    the text is read, of that [1, L, sum]."""

    def __init__(self, ahead: Ahead, cond: Sequence[TensorSpec]) -> None:
        self._views, self._reads = ahead.views, "text" in _foretold(ahead, cond)
        self._t, self._cond = torch.zeros(1), tuple(torch.zeros(spec.shape, dtype=spec.dtype) for spec in cond)

    def __call__(self, time: Tensor, more: tuple[Tensor, ...]) -> tuple[Told, tuple[Tensor, ...]]:
        text, rest = (self._views(more[0]), more[1:]) if self._reads else ((), more)
        return Told(self._t, self._cond, None, Known(time, text)), rest


class UNetGraph(nn.Module):
    """x [1, C, h, w], what `sort` wants, residuals. To the model's own prediction, [1, C, h, w]."""

    def __init__(self, unet: EagerUNet, net: nn.Module, sort: Sort) -> None:
        super().__init__()
        self.net, self._call, self._sort = net, unet, sort

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> Tensor:
        told, residuals = self._sort(t, more)
        return self._call(x, told.t, told.cond, told.guidance, residuals, known=told.known)


class DeepGraph(UNetGraph):
    """As UNetGraph; to that and to what the outermost level is handed, [1, C, h, w]."""

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        told, residuals = self._sort(t, more)
        return self._call.with_deep(x, told.t, told.cond, told.guidance, residuals, None, told.known)


class OuterGraph(UNetGraph):
    """As UNetGraph, with what the outermost level is handed before the residuals, which are those that it takes."""

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> Tensor:
        told, (state, *residuals) = self._sort(t, more)
        return self._call.from_deep(state, x, told.t, told.cond, told.guidance, residuals, known=told.known)


class WholeGraph(UNetGraph):
    """As UNetGraph, without residuals; to that and to what its normalisations find, [1, numbers]."""

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        told, _ = self._sort(t, more)
        return self._call.with_surroundings(x, told.t, told.cond, told.guidance, (), None, told.known)


class PartGraph(UNetGraph):
    """As UNetGraph, with what normalisations found in the whole picture, [1, numbers], in the place of residuals."""

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> Tensor:
        told, (kept,) = self._sort(t, more)
        return self._call(x, told.t, told.cond, told.guidance, known=told.known, around=Around(kept, False))


class ControlGraph(nn.Module):
    """x, what `sort` wants, the embedded hint [1, C, h, w]. To residuals, the middle block's last; `outer`: only to
    those that the denoiser's outermost level takes."""

    def __init__(self, control: EagerControlNet, net: nn.Module, sort: Sort, outer: bool = False) -> None:
        super().__init__()
        self.net, self._call, self._sort, self._outer = net, control, sort, outer

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        told, (hint,) = self._sort(t, more)
        return self._call(x, told.t, told.cond, hint, self._outer, told.known)


class Function(nn.Module):
    """A function over the weights of `owner`."""

    def __init__(self, run: Callable[[Tensor], Any], owner: nn.Module) -> None:
        super().__init__()
        self.owner, self._run = owner, run

    def forward(self, x: Tensor) -> Any:
        return self._run(x)


class TextGraph(nn.Module):
    """Token ids [1, L] to the last hidden state, the one before it, and what is pooled or projected."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.net(ids, output_hidden_states=True)
        pooled = found.text_embeds if "text_embeds" in found else found.pooler_output
        return found.last_hidden_state, found.hidden_states[-2], pooled


def foreseen(found: Modules) -> Ahead | None:
    """Have the denoiser take what is known ahead; None, and it stays as it is, where it can't."""
    return _eager(found).foresee().ahead


def told_ahead(ahead: Ahead, t: Tensor, cond: Sequence[Tensor]) -> dict[str, Tensor]:
    """What was computed ahead of a step, t [1], under a prompt, each part with one row; by name."""
    with torch.inference_mode():
        guidance = torch.full((1,), 7.5) if ahead.guided else None
        time, text = ahead.times(t, cond, guidance)[0], ahead.reads(cond[0])
    name = "pooled" if ahead.pooled else "time"
    return {name: time.clone(), **({"text": text.clone()} if text.numel() else {})}


def _foretold(ahead: Ahead, cond: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """An example."""
    return told_ahead(ahead, torch.full((1,), 500.0), tuple(_examples(cond).values()))


def unet_graph(found: Modules, cond: Sequence[TensorSpec], ahead: Ahead | None = None) -> Graph:
    """The denoiser, its residuals among the inputs: zeros where no ControlNet acts. `cond`: what a prompt is. `ahead`:
    of a denoiser that was `foreseen`."""
    inputs, sort = _told(found, cond, ahead)
    for i, shape in enumerate(residual_shapes(found.unet.config, found.latent)):
        inputs[f"residual{i}"] = _noise(1, *shape).to(found.unet.dtype)
    return Graph(UNetGraph(_eager(found), found.unet, sort), inputs, ("out",))


def deep_graphs(found: Modules, cond: Sequence[TensorSpec], ahead: Ahead | None = None) -> dict[str, Graph]:
    """`unet`, which also gives what its outermost level is handed, and `outer`, that level alone. Where there is none,
    `unet` as it is."""
    whole, outer = unet_graph(found, cond, ahead), outer_of(found.unet.config, found.latent)
    if outer is None:
        return {"unet": whole}
    unet, (kept, sort) = _eager(found), _told(found, cond, ahead)
    kept["deep"] = _noise(1, *outer.state).to(found.unet.dtype)
    kept |= {name: whole.inputs[name] for name in (f"residual{i}" for i in range(outer.residuals))}
    return {
        "unet": Graph(DeepGraph(unet, found.unet, sort), whole.inputs, ("out", "deep")),
        "outer": Graph(OuterGraph(unet, unet.outer, sort), kept, ("out",)),
    }


def part_graphs(found: Modules, cond: Sequence[TensorSpec], ahead: Ahead | None = None) -> dict[str, Graph]:
    """`whole`, a denoiser that also gives what its normalisations find, and `part`, which is given that: see
    engines.surroundings. Both without residuals."""
    unet, (inputs, sort) = _eager(found).surround(), _told(found, cond, ahead)
    kept = {**inputs, "surroundings": _noise(1, unet.numbers).abs()}
    return {
        "whole": Graph(WholeGraph(unet, found.unet, sort), inputs, ("out", "surroundings")),
        "part": Graph(PartGraph(unet, found.unet, sort), kept, ("out",)),
    }


def _eager(found: Modules) -> EagerUNet:
    return EagerUNet(found.unet, found.unet.dtype, NetSpec((), (), torch.device("cpu")))


def _told(found: Modules, cond: Sequence[TensorSpec], ahead: Ahead | None) -> tuple[dict[str, Tensor], Sort]:
    """The first inputs of a denoiser, and what sorts them."""
    x = _noise(1, *found.latent)
    if ahead is not None:
        return {"x": x, **_foretold(ahead, cond)}, Knowing(ahead, cond)
    inputs, guided = (
        {"x": x, "t": torch.full((1,), 500.0), **_examples(cond)},
        bool(found.unet.config.time_cond_proj_dim),
    )
    if guided:
        inputs["guidance"] = torch.full((1,), 7.5)
    return inputs, Asking(len(cond), guided)


def codec_graphs(found: Modules, size: tuple[int, int], folded: bool = False) -> dict[str, Graph]:
    """`encode` and `decode`, for pictures of `size` (height, width). `folded`: by engines.fold, in the modules."""
    vae = found.vae
    if folded:
        fold_codec(vae)
    encode, decode = coders(vae)
    image, latent = _noise(1, 3, *size).clamp(-1, 1), _noise(1, *found.latent)
    return {
        "encode": Graph(Function(lambda x: encode(x.to(vae.dtype)).float(), vae), {"image": image}, ("latent",)),
        "decode": Graph(Function(lambda x: decode(x.to(vae.dtype)).float(), vae), {"latent": latent}, ("image",)),
    }


def pixel_graphs(found: Modules, size: tuple[int, int]) -> dict[str, Graph]:
    """An autoencoder with what comes before and after it: `encode_bytes`, from uint8, and `finish`, to all that is in
    engines.base.Finished, the last as a sum that is finite where picture and latent are (a compiler's ReLU may make 0
    of what is no number)."""
    vae = found.vae
    encode, decode = coders(vae)

    def numbers(levels: Tensor) -> Tensor:
        return encode((levels.float() / 127.5 - 1.0).to(vae.dtype)).float()

    def finish(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = decode(x.to(vae.dtype)).float()
        held = image.clamp(-1.0, 1.0)
        return held, (held * 127.5 + 127.5).round().to(torch.uint8), image.sum() + x.sum()

    levels = torch.full((1, 3, *size), 128, dtype=torch.uint8)
    return {
        "encode_bytes": Graph(Function(numbers, vae), {"levels": levels}, ("latent",)),
        "finish": Graph(Function(finish, vae), {"latent": _noise(1, *found.latent)}, ("image", "levels", "total")),
    }


def control_graphs(control: EagerControlNet) -> dict[str, Graph]:
    """`embed`, `control`, and `shallow`, which is what the denoiser's outermost level needs of that."""
    _, height, width = control.spec.inputs[0].shape[1:]
    hint = _noise(1, control.channels, 8 * height, 8 * width).clamp(0, 1)
    with torch.inference_mode():
        embedded = control.embed(hint)
    x, _, *cond = control.spec.inputs
    sort: Sort
    if control.ahead is not None:
        told, sort = _foretold(control.ahead, cond), Knowing(control.ahead, cond)
    else:
        told, sort = {"t": torch.full((1,), 500.0), **_examples(cond)}, Asking(len(cond), False)
    inputs = {"x": _noise(*x.shape), **told, "hint": embedded.clone()}
    residuals = tuple(spec.name for spec in control.spec.outputs)
    return {
        "embed": Graph(Function(control.embed, control.embedding), {"hint": hint}, ("embedded",)),
        "control": Graph(ControlGraph(control, control.net, sort), inputs, residuals),
        "shallow": Graph(ControlGraph(control, control.net, sort, outer=True), inputs, residuals[: control.shallow]),
    }


def text_graphs(text: ClipText) -> dict[str, Graph]:
    """`text`, and for SDXL `text_2`: the encoders without what livelatent does to their input and output."""
    out: dict[str, Graph] = {}
    for (tokenizer, model), name in zip(text.encoders, ("text", "text_2"), strict=False):
        ids = torch.full((1, text.length), tokenizer.eos_token_id, dtype=torch.int64)
        ids[0, 0] = tokenizer.bos_token_id
        out[name] = Graph(TextGraph(model), {"ids": ids}, ("hidden", "penultimate", "pooled"))
    return out


def _examples(cond: Sequence[TensorSpec]) -> dict[str, Tensor]:
    return {spec.name: _noise(*spec.shape).to(spec.dtype) for spec in cond}


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))
