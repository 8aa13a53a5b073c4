"""A denoiser's outermost level by itself: DeepCache (Ma et al. 2023), with frames in place of steps.

What the levels below say of a picture changes slowly. Kept from a frame before, it is handed to the last block of the
way up, and of the whole network only the first block of the way down and that last one are computed anew.

The networks made here share every weight with the whole ones, so that LoRAs and image prompts act in both.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engines.given import Outer

DOWN = ("DownBlock2D", "CrossAttnDownBlock2D")
UP = ("UpBlock2D", "CrossAttnUpBlock2D")
LAYERS = 2
"""diffusers' default of layers_per_block."""


class Handed(nn.Module):
    """In place of all the levels below: gives what it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | None = None

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        del x, temb
        assert self.state is not None, "the outermost level is asked before it was handed anything"
        return self.state


class Silent(nn.Module):
    """In place of a ControlNet's middle, whose gate nobody asks."""

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        del temb
        return x


def outer_of(config: Mapping[str, Any], latent: tuple[int, int, int]) -> Outer | None:
    """What the outermost level of a UNet2DConditionModel of this config takes; None where it is built otherwise."""
    downs, ups, widths = (config.get(name, ()) for name in ("down_block_types", "up_block_types", "block_out_channels"))
    if len(downs) < 2 or downs[0] not in DOWN or ups[-1] not in UP or len(widths) != len(downs):
        return None
    layers = config.get("layers_per_block", LAYERS)
    first = layers if isinstance(layers, int) else layers[0]
    return Outer((widths[1], *latent[1:]), first + 1)


def outer_unet(net: Any) -> Any:
    """The outermost level of a UNet2DConditionModel that has one (`outer_of`). Called as the whole one is, with as many
    residuals as it takes; its `mid_block` is Handed."""
    other = _sharing(net)
    other.down_blocks = nn.ModuleList([_without_end(net.down_blocks[0])])
    other.up_blocks = nn.ModuleList([net.up_blocks[-1]])
    other.mid_block = Handed()
    return other


def outer_control(net: Any, residuals: int) -> Any:
    """The part of a ControlNetModel that the outermost level needs: its first `residuals` ones. Its middle block's is
    worth nothing."""
    other = _sharing(net)
    other.down_blocks = nn.ModuleList([_without_end(net.down_blocks[0])])
    other.mid_block = other.controlnet_mid_block = Silent()
    other.controlnet_down_blocks = nn.ModuleList(list(net.controlnet_down_blocks)[:residuals])
    return other


class Ear:
    """Hears what the last block of the way up is handed, while a whole UNet runs inside."""

    def __init__(self, net: Any) -> None:
        self._block = net.up_blocks[-1]
        self.heard = torch.empty(0)

    def __enter__(self) -> Ear:
        self._hook = self._block.register_forward_pre_hook(self._hear, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _hear(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.heard = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]


def _without_end(block: Any) -> Any:
    """Without what leads to the next level."""
    other = _sharing(block)
    if getattr(block, "downsamplers", None) is not None:
        other.downsamplers = None
    return other


def _sharing(module: Any) -> Any:
    """A module over the same parts, whose own list of parts and hooks may be changed."""
    other = copy.copy(module)
    other.__dict__["_modules"] = dict(module._modules)
    for name in [name for name in other.__dict__ if name.endswith("_hooks")]:
        other.__dict__[name] = OrderedDict()
    return other
