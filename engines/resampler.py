"""What turns an image encoder's output into tokens for a denoiser: IP-Adapter's two ways, in their public layouts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ipfile import HEAD

Weights = Mapping[str, Tensor]


class Projection:
    """Plain: one linear layer, cut into tokens."""

    def __init__(self, weights: Weights) -> None:
        """`weights`: those of `image_proj`, without that prefix."""
        self._weights = weights
        self._width = len(weights["norm.weight"])

    def __call__(self, embedding: Tensor) -> Tensor:
        """[B, seen] to [B, tokens, width]."""
        tokens = F.linear(embedding, self._weights["proj.weight"], self._weights["proj.bias"])
        return _norm(tokens.view(len(tokens), -1, self._width), self._weights, "norm")


class Resampler:
    """Plus: learned queries that read the patches (a Perceiver; Jaegle et al. 2021)."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._depth = len({name.split(".")[1] for name in weights if name.startswith("layers.")})

    def __call__(self, patches: Tensor) -> Tensor:
        """[B, patches, seen] to [B, tokens, width]."""
        w = self._weights
        x = F.linear(patches, w["proj_in.weight"], w["proj_in.bias"])
        latents = w["latents"].expand(len(x), -1, -1)
        for layer in range(self._depth):
            latents = latents + self._attend(x, latents, f"layers.{layer}.0")
            inner = F.linear(_norm(latents, w, f"layers.{layer}.1.0"), w[f"layers.{layer}.1.1.weight"])
            latents = latents + F.linear(F.gelu(inner), w[f"layers.{layer}.1.3.weight"])
        return _norm(F.linear(latents, w["proj_out.weight"], w["proj_out.bias"]), w, "norm_out")

    def _attend(self, x: Tensor, latents: Tensor, at: str) -> Tensor:
        """The queries read the patches and themselves."""
        w = self._weights
        x, latents = _norm(x, w, f"{at}.norm1"), _norm(latents, w, f"{at}.norm2")
        key, value = F.linear(torch.cat([x, latents], dim=1), w[f"{at}.to_kv.weight"]).chunk(2, dim=-1)
        query = F.linear(latents, w[f"{at}.to_q.weight"])
        query, key, value = (part.reshape(*part.shape[:2], -1, HEAD).transpose(1, 2) for part in (query, key, value))
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return F.linear(found, w[f"{at}.to_out.weight"])


def _norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    weight = weights[f"{name}.weight"]
    return F.layer_norm(x, weight.shape, weight, weights[f"{name}.bias"])
