"""What a denoiser or a ControlNet computes of step and prompt alone, whatever the picture: done when those change, and
not in each frame.

Two things: the time's embedding with what every residual block makes of it, and the keys and values that every cross
attention makes of the text. Their weights are put behind each other, so that either is one product of matrices. Exact
but for the order of rounding. LoRAs change these weights in place, as all others. Imports diffusers: only what loads
does so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TextTimeEmbedding, TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from engines.base import Known
from engines.crossattention import install

_BLOCKS = frozenset(
    {
        *("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
        *("UNetMidBlock2D", "UNetMidBlock2DCrossAttn", "IdleBlock", "IdleMiddle"),
    }
)
"""Those that hand the embedding to residual blocks and to nothing else."""


class Given(TimestepEmbedding):  # type: ignore[misc]  # diffusers is untyped
    """Gives back what it is given in the guidance scale's place: all projections of the embedding, side by side."""

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor | None:
        return condition


class Unasked(TimestepEmbedding):  # type: ignore[misc]
    """SDXL's part of the embedding, which is in the projections already."""

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> None: ...


class Unheard(TextTimeEmbedding):  # type: ignore[misc]
    """The text's part of it, where a model has that."""

    def forward(self, hidden_states: Tensor) -> None: ...


class Unturned(Timesteps):  # type: ignore[misc]
    """No sinusoids: nobody asks for them."""

    def forward(self, timesteps: Tensor) -> Tensor:
        return timesteps


class Part(nn.Linear):
    """A residual block's own among all projections."""

    at: int

    def forward(self, input: Tensor) -> Tensor:
        return input[:, self.at : self.at + self.out_features]


class Ahead:
    """Of one UNet2DConditionModel or ControlNetModel, which from then on has to be given what this computes."""

    def __init__(
        self, net: Any, version: Callable[[], int], condition: Callable[[Tensor | None], Tensor | None]
    ) -> None:
        """`net` must be `foreseeable`, and is changed. `condition`: guidance scale to what the embedding takes."""
        self._net, self.version, self._condition = net, version, condition
        self._added: str | None = net.config.addition_embed_type
        self.pooled = self._added is not None
        """Whether the prompt is part of the time's embedding, as SDXL's and pocket's are."""
        self.guided = getattr(net.config, "time_cond_proj_dim", None) is not None
        """Whether the guidance scale is."""
        resnets = _resnets(net)
        self._act = resnets[0].nonlinearity
        self._time, self._bias = _stack([resnet.time_emb_proj for resnet in resnets])
        self._heads: list[int] = [attn.heads for attn in _readers(net)]
        self._widths: list[int] = [attn.to_k.out_features for attn in _readers(net)]
        readers = [layer for attn in _readers(net) for layer in (attn.to_k, attn.to_v)]
        self._text = _stack(readers)[0] if readers else self._time.new_zeros(0, net.config.cross_attention_dim)
        hand_over(net)

    def __call__(self, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None) -> Known:
        """Of one step: t and guidance 0-dim, cond [B, ...] each."""
        times = self.times(t[None], cond, guidance)
        return Known(times[0], self.views(self.reads(cond[0])))

    def room(self, steps: int, length: int) -> tuple[Tensor, Tensor]:
        """Memory for what `times` and `reads` give, of so many steps, two prompts, and texts of that length."""
        rows = 2 if self.pooled else 1
        times = self._time.new_zeros(steps, rows, len(self._time))
        return times, self._text.new_zeros(2, length, len(self._text))

    def times(self, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None) -> Tensor:
        """t fp32 [S] to [S, B, sum of the blocks' channels], B = 1 where the prompt has no part in it."""
        net, dtype = self._net, self._time.dtype
        angles = Timesteps.forward(net.time_proj, t).to(dtype)
        found = TimestepEmbedding.forward(net.time_embedding, angles, self._condition(guidance))[:, None]
        if self._added == "text":
            found = found + TextTimeEmbedding.forward(net.add_embedding, cond[0])
        elif self._added == "text_time":
            sizes = Timesteps.forward(net.add_time_proj, cond[2].flatten()).reshape(len(cond[1]), -1)
            found = found + TimestepEmbedding.forward(net.add_embedding, torch.cat([cond[1], sizes], 1).to(dtype))
        return F.linear(self._act(found), self._time, self._bias)

    def reads(self, text: Tensor) -> Tensor:
        """Hidden states [B, L, D] to the keys and values of all cross attentions, side by side."""
        return F.linear(text, self._text)

    def views(self, reads: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Of what `reads` gave, each cross attention's keys and values, [B, heads, L, d]."""
        found, at = list[tuple[Tensor, Tensor]](), 0
        for heads, width in zip(self._heads, self._widths, strict=True):
            parts = reads[:, :, at : at + width], reads[:, :, at + width : at + 2 * width]
            key, value = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in parts)
            found.append((key, value))
            at += 2 * width
        return tuple(found)


def foresee(
    net: Any, version: Callable[[], int] = int, condition: Callable[[Tensor | None], Tensor | None] = lambda _: None
) -> Ahead | None:
    """Change `net` so that it takes what is known ahead; None, and nothing is changed, where it can't be. `version`
    changes with its weights."""
    install(net)
    return Ahead(net, version, condition) if foreseeable(net) else None


def foreseeable(net: Any) -> bool:
    """Whether it is built as the models that this was made for: nothing else uses what is computed ahead."""
    resnets, readers = _resnets(net), _readers(net)
    blocks = [*net.down_blocks, net.mid_block, *getattr(net, "up_blocks", ())]
    return (
        bool(resnets)
        and all(type(block).__name__ in _BLOCKS for block in blocks)
        and all(type(resnet) is ResnetBlock2D and not resnet.skip_time_act for resnet in resnets)
        and len({(type(resnet.nonlinearity), resnet.time_emb_proj.in_features) for resnet in resnets}) == 1
        and all(getattr(attn.processor, "takes_known", False) and attn.to_k.bias is None for attn in readers)
        and len({attn.to_k.in_features for attn in readers}) <= 1
        and net.config.addition_embed_type in (None, "text", "text_time")
        and net.class_embedding is None
        and getattr(net, "encoder_hid_proj", None) is None
        and getattr(net, "time_embed_act", None) is None
        and type(net.time_embedding) is TimestepEmbedding
        and type(net.time_proj) is Timesteps
    )


def _resnets(net: Any) -> list[Any]:
    return [part for part in net.modules() if getattr(part, "time_emb_proj", None) is not None]


def _readers(net: Any) -> list[Any]:
    """Cross attentions, in the order of engines.crossattention."""
    return [part for path, part in net.named_modules() if path.endswith(".attn2") and hasattr(part, "to_k")]


def _stack(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """All weights and biases as one; the layers' own become views of it, so that what changes them changes it."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers]) if layers[0].bias is not None else None
    at = 0
    for layer in layers:
        layer.weight.data = weight[at : at + layer.out_features]
        if bias is not None:
            layer.bias.data = bias[at : at + layer.out_features]
        at += layer.out_features
    return weight, bias


def hand_over(net: Any) -> None:
    """Have diffusers' own code carry the projections where it carries the embedding. Modules keep their names and
    weights: they get another way of being called."""
    net.time_proj.__class__, net.time_embedding.__class__ = Unturned, Given
    if net.config.addition_embed_type == "text_time":
        net.add_time_proj.__class__, net.add_embedding.__class__ = Unturned, Unasked
    elif net.config.addition_embed_type == "text":
        net.add_embedding.__class__ = Unheard
    at = 0
    for resnet in _resnets(net):
        resnet.skip_time_act = True  # it is in the projections
        resnet.time_emb_proj.__class__ = Part
        resnet.time_emb_proj.at = at
        at += resnet.time_emb_proj.out_features
