"""Decoupled cross-attention (Ye et al. 2023): beside the text, a denoiser's cross attention reads a picture.

The text's part is diffusers' own and, without a picture, all there is; its keys and values may have been computed ahead
(engines.ahead). Imports diffusers: only what loads networks does so, when it loads.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from engines.given import Reads
from engines.ipfile import Layer


class CrossAttention(AttnProcessor2_0):  # type: ignore[misc]  # diffusers is untyped
    """diffusers' processor, which also looks at the picture of the call, if there is one."""

    takes_known = True
    """Whether it uses keys and values that were computed ahead."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: Reads | None = None,
    ) -> Tensor:
        """`ip_hidden_states`: what is read, under the one name that diffusers hands through without a word."""
        if ip_hidden_states is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)  # type: ignore[no-any-return]
        known, image = ip_hidden_states
        query = _heads(attn.to_q(hidden_states), attn.heads)
        key, value = known[self._index] if known else _read(attn, encoder_hidden_states)
        found = _joined(F.scaled_dot_product_attention(query, key, value))
        seen = image.layers[self._index] if image is not None else None
        if image is not None and seen is not None:
            found = found + image.scale * _joined(F.scaled_dot_product_attention(query, *seen))
        return attn.to_out[1](attn.to_out[0](found))  # type: ignore[no-any-return]


def install(unet: Any) -> tuple[Layer, ...]:
    """Give every cross attention of a UNet2DConditionModel our processor; what they are, in the adapters' order.

    Empty, and the UNet as it was, where one of them is built in a way that image adapters were never made for. A
    ControlNetModel's too.
    """
    found = [(path, part) for path, part in unet.named_modules() if path.endswith(".attn2") and hasattr(part, "to_q")]
    if not all(_usual(part) for _, part in found):
        return ()
    for index, (_, part) in enumerate(found):
        part.set_processor(CrossAttention(index))
    return tuple(Layer(path, part.to_k.in_features, part.to_k.out_features, part.heads) for path, part in found)


def _usual(attn: Any) -> bool:
    return (
        type(attn.processor) in (AttnProcessor2_0, CrossAttention)
        and attn.to_k is not None
        and attn.norm_cross is None
        and attn.group_norm is None
        and attn.spatial_norm is None
        and attn.norm_q is None
        and not attn.residual_connection
        and attn.rescale_output_factor == 1.0
    )


def _read(attn: Any, text: Tensor | None) -> tuple[Tensor, Tensor]:
    return _heads(attn.to_k(text), attn.heads), _heads(attn.to_v(text), attn.heads)


def _heads(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * d] to [B, heads, L, d]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """And back."""
    return x.transpose(1, 2).flatten(2)
