"""What a denoiser or a ControlNet computes of step and prompt alone, whatever the picture: done when those change, and
not in each frame.

Two things: the time's embedding with what every residual block makes of it, and the keys and values that every cross
attention makes of the text. Their weights are put behind each other, so that either is one product of matrices. Exact
but for the order of rounding. LoRAs change these weights in place, as all others. Imports diffusers: only what loads
does so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TextTimeEmbedding, TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from engines.crossattention import install
from engines.given import Known

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


class Stacks(NamedTuple):
    """Weights of layers that take the same, one below the other. Each path and number of rows in their order."""

    time: Tensor
    bias: Tensor
    blocks: list[tuple[str, int]]
    """Of the residual blocks' projections."""
    text: Tensor
    readers: list[tuple[str, int]]
    """Of the cross attentions' keys and values, by turns."""
    heads: list[int]


class Ahead:
    """Of one UNet2DConditionModel or ControlNetModel, which from then on has to be given what this computes."""

    def __init__(
        self,
        net: Any,
        stacks: Stacks,
        version: Callable[[], int],
        condition: Callable[[Tensor | None], Tensor | None],
    ) -> None:
        """`net`: what has its embeddings. `condition`: guidance scale to what the embedding takes."""
        self.net, self.stacks, self.version, self._condition = net, stacks, version, condition
        self._added: str | None = net.config.addition_embed_type
        self.pooled = self._added is not None
        """Whether the prompt is part of the time's embedding, as SDXL's and pocket's are."""
        self.guided = getattr(net.config, "time_cond_proj_dim", None) is not None
        """Whether the guidance scale is."""

    def __call__(self, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None) -> Known:
        """Of one step: t and guidance 0-dim, cond [B, ...] each."""
        times = self.times(t[None], cond, guidance)
        return Known(times[0], self.views(self.reads(cond[0])))

    def room(self, steps: int, length: int) -> tuple[Tensor, Tensor]:
        """Memory for what `times` and `reads` give, of so many steps, two prompts, and texts of that length."""
        rows = 2 if self.pooled else 1
        times = self.stacks.time.new_zeros(steps, rows, len(self.stacks.time))
        return times, self.stacks.text.new_zeros(2, length, len(self.stacks.text))

    def times(self, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None) -> Tensor:
        """t fp32 [S] to [S, B, sum of the blocks' channels], B = 1 where the prompt has no part in it."""
        net, dtype = self.net, self.stacks.time.dtype
        angles = Timesteps.forward(net.time_proj, t).to(dtype)
        found = TimestepEmbedding.forward(net.time_embedding, angles, self._condition(guidance))[:, None]
        if self._added == "text":
            found = found + TextTimeEmbedding.forward(net.add_embedding, cond[0].to(dtype))
        elif self._added == "text_time":
            sizes = Timesteps.forward(net.add_time_proj, cond[2].flatten()).reshape(len(cond[1]), -1)
            found = found + TimestepEmbedding.forward(net.add_embedding, torch.cat([cond[1], sizes], 1).to(dtype))
        return F.linear(F.silu(found), self.stacks.time, self.stacks.bias)

    def reads(self, text: Tensor) -> Tensor:
        """Hidden states [B, L, D] to the keys and values of all cross attentions, side by side."""
        return F.linear(text.to(self.stacks.text.dtype), self.stacks.text)

    def views(self, reads: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """Of what `reads` gave, each cross attention's keys and values, [B, heads, L, d]."""
        found, at = list[tuple[Tensor, ...]](), 0
        for heads, (_, width) in zip(self.stacks.heads, self.stacks.readers[::2], strict=True):
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
    if not foreseeable(net):
        return None
    stacks = _stacks(net)
    hand_over(net)
    return Ahead(net, stacks, version, condition)


def foreseeable(net: Any) -> bool:
    """Whether it is built as the models that this was made for: nothing else uses what is computed ahead."""
    resnets, readers = _resnets(net), _readers(net)
    blocks = [*net.down_blocks, net.mid_block, *getattr(net, "up_blocks", ())]
    return (
        bool(resnets)
        and all(type(block).__name__ in _BLOCKS for block in blocks)
        and all(type(resnet) is ResnetBlock2D and not resnet.skip_time_act for resnet in resnets)
        and all(type(resnet.nonlinearity) is nn.SiLU and resnet.time_emb_proj.bias is not None for resnet in resnets)
        and len({resnet.time_emb_proj.in_features for resnet in resnets}) == 1
        and all(getattr(attn.processor, "takes_known", False) and attn.to_k.bias is None for attn in readers)
        and len({attn.to_k.in_features for attn in readers}) <= 1
        and net.config.addition_embed_type in (None, "text", "text_time")
        and net.class_embedding is None
        and getattr(net, "encoder_hid_proj", None) is None
        and getattr(net, "time_embed_act", None) is None
        and type(net.time_embedding) is TimestepEmbedding
        and type(net.time_embedding.act) is nn.SiLU
        and net.time_embedding.post_act is None
        and type(net.time_proj) is Timesteps
    )


def _resnets(net: Any) -> list[Any]:
    return [part for _, part in _named_resnets(net)]


def _named_resnets(net: Any) -> list[tuple[str, Any]]:
    return [(path, part) for path, part in net.named_modules() if getattr(part, "time_emb_proj", None) is not None]


def _readers(net: Any) -> list[Any]:
    """Cross attentions, in the order of engines.crossattention."""
    return [part for _, part in _named_readers(net)]


def _named_readers(net: Any) -> list[tuple[str, Any]]:
    return [(path, part) for path, part in net.named_modules() if path.endswith(".attn2") and hasattr(part, "to_k")]


def _stacks(net: Any) -> Stacks:
    """The layers' own weights become views of these, so that what changes them changes it."""
    blocks = {f"{path}.time_emb_proj": part.time_emb_proj for path, part in _named_resnets(net)}
    readers = {f"{path}.{name}": getattr(part, name) for path, part in _named_readers(net) for name in ("to_k", "to_v")}
    time = _stacked([layer.weight for layer in blocks.values()])
    bias = _stacked([layer.bias for layer in blocks.values()])
    if readers:
        text = _stacked([layer.weight for layer in readers.values()])
    else:
        text = time.new_zeros(0, net.config.cross_attention_dim)
    rows = [[(path, layer.out_features) for path, layer in found.items()] for found in (blocks, readers)]
    return Stacks(time, bias, rows[0], text, rows[1], [part.heads for part in _readers(net)])


def _stacked(parts: Sequence[nn.Parameter]) -> Tensor:
    whole, at = torch.cat(list(parts)), 0
    for part in parts:
        part.data = whole[at : at + len(part)]
        at += len(part)
    return whole


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
