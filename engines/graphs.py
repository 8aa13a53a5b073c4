"""A model's networks as graphs: tensors in, tensors out, in a fixed order and under fixed names, for whoever compiles.

What eager computes around its networks (the sinusoids of a guidance scale, an autoencoder's scale) is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engines.base import NetSpec, TensorSpec
from engines.control import EagerControlNet, residual_shapes
from engines.eager import EagerUNet, Modules, coders
from engines.fold import fold_codec
from engines.outer import outer_of
from engines.text import ClipText


class Graph(NamedTuple):
    """One network."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """An example of each by name, in order; those that a network hands on in that network's precision, else fp32."""
    outputs: tuple[str, ...]


class UNetGraph(nn.Module):
    """x [1, C, h, w], t [1], hidden states [1, L, D], then as the model has them: pooled [1, P] and size [1, 6],
    guidance [1], residuals. To the model's own prediction, [1, C, h, w]."""

    def __init__(self, unet: EagerUNet, net: nn.Module, cond: int, guided: bool) -> None:
        """`cond`: how many tensors a prompt is."""
        super().__init__()
        self.net, self._call, self._cond, self._guided = net, unet, cond, guided

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> Tensor:
        return self._call(x, t, *self._sorted(more))

    def _sorted(self, more: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor | None, tuple[Tensor, ...]]:
        """cond, guidance and what comes after."""
        cond, rest = more[: self._cond], more[self._cond :]
        return (cond, rest[0], rest[1:]) if self._guided else (cond, None, rest)


class DeepGraph(UNetGraph):
    """As UNetGraph; to that and to what the outermost level is handed, [1, C, h, w]."""

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self._call.with_deep(x, t, *self._sorted(more))


class OuterGraph(UNetGraph):
    """As UNetGraph, with what the outermost level is handed before the residuals, which are those that it takes."""

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> Tensor:
        cond, guidance, (state, *residuals) = self._sorted(more)
        return self._call.from_deep(state, x, t, cond, guidance, residuals)


class ControlGraph(nn.Module):
    """x, t and cond as the UNet's, then the embedded hint [1, C, h, w]. To residuals, the middle block's last."""

    def __init__(self, control: EagerControlNet, net: nn.Module) -> None:
        super().__init__()
        self.net, self._call = net, control

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        return self._call(x, t, more[:-1], more[-1])


class Function(nn.Module):
    """A function over the weights of `owner`."""

    def __init__(self, run: Callable[[Tensor], Tensor], owner: nn.Module) -> None:
        super().__init__()
        self.owner, self._run = owner, run

    def forward(self, x: Tensor) -> Tensor:
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


def unet_graph(found: Modules, cond: Sequence[TensorSpec]) -> Graph:
    """The denoiser, its residuals among the inputs: zeros where no ControlNet acts. `cond`: what a prompt is."""
    config, dtype = found.unet.config, found.unet.dtype
    unet = EagerUNet(found.unet, dtype, NetSpec((), (), torch.device("cpu")))
    inputs = {"x": _noise(1, *found.latent), "t": torch.full((1,), 500.0), **_examples(cond)}
    if unet.guidance_dim:
        inputs["guidance"] = torch.full((1,), 7.5)
    for i, shape in enumerate(residual_shapes(config, found.latent)):
        inputs[f"residual{i}"] = _noise(1, *shape).to(dtype)
    module = UNetGraph(unet, found.unet, len(cond), bool(unet.guidance_dim))
    return Graph(module, inputs, ("out",))


def deep_graphs(found: Modules, cond: Sequence[TensorSpec]) -> dict[str, Graph]:
    """`unet`, which also gives what its outermost level is handed, and `outer`, that level alone. Where there is none,
    `unet` as it is."""
    whole, outer = unet_graph(found, cond), outer_of(found.unet.config, found.latent)
    if outer is None:
        return {"unet": whole}
    unet, guided = (
        EagerUNet(found.unet, found.unet.dtype, NetSpec((), (), torch.device("cpu"))),
        "guidance" in whole.inputs,
    )
    kept = {name: value for name, value in whole.inputs.items() if not name.startswith("residual")}
    kept["deep"] = _noise(1, *outer.state).to(found.unet.dtype)
    kept |= {name: whole.inputs[name] for name in (f"residual{i}" for i in range(outer.residuals))}
    return {
        "unet": Graph(DeepGraph(unet, found.unet, len(cond), guided), whole.inputs, ("out", "deep")),
        "outer": Graph(OuterGraph(unet, unet.outer, len(cond), guided), kept, ("out",)),
    }


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


def control_graphs(control: EagerControlNet) -> dict[str, Graph]:
    """`embed` and `control`."""
    _, height, width = control.spec.inputs[0].shape[1:]
    hint = _noise(1, control.channels, 8 * height, 8 * width).clamp(0, 1)
    with torch.inference_mode():
        embedded = control.embed(hint)
    x, _, *cond = control.spec.inputs
    inputs = {"x": _noise(*x.shape), "t": torch.full((1,), 500.0), **_examples(cond), "hint": embedded.clone()}
    residuals = tuple(spec.name for spec in control.spec.outputs)
    return {
        "embed": Graph(Function(control.embed, control.embedding), {"hint": hint}, ("embedded",)),
        "control": Graph(ControlGraph(control, control.net), inputs, residuals),
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
