"""Other kernels for the networks that eager has loaded: our own, in Triton, or those that torch's Inductor makes.

They are given to a second set of modules over the same weights, so that what eager has stays as it was, LoRAs act on
both, and memory holds the weights once. Whether a card is faster with them is measured (pipelines.ladder). Imports
diffusers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from engines import groupnorm
from engines.ahead import hand_over
from engines.base import KERNELS, Kernels, Nets
from engines.compiled import joins
from engines.control import EagerControlNet
from engines.crossattention import install
from engines.eagernet import EagerUNet
from engines.errors import ModelError, first_line
from engines.groupnorm import Normed, NormedSilu, normed
from engines.surroundings import release


class Fused(ResnetBlock2D):  # type: ignore[misc]  # diffusers is untyped
    """A residual block whose normalisations take in the time's part and SiLU."""

    def forward(self, input_tensor: Tensor, temb: Tensor, *_: Any, **__: Any) -> Tensor:
        x = self.conv1(normed(input_tensor, self.norm1, act=True))
        if not self.skip_time_act:
            temb = self.nonlinearity(temb)
        told = self.time_emb_proj(temb)
        if self.time_embedding_norm == "scale_shift":
            scale, after = told.chunk(2, dim=1)
            x = normed(x, self.norm2, act=True, scale=scale, after=after)
        else:
            x = normed(x, self.norm2, act=True, shift=told)
        x = self.conv2(x)
        kept = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        x = kept + x
        out: Tensor = x if self.output_scale_factor == 1.0 else x / self.output_scale_factor
        return out


def with_kernels(nets: Nets, kernels: Kernels) -> Nets:
    """Eager's networks with other kernels. Raises ModelError, a sentence, where they can't be had."""
    if not kernels:
        return nets
    assert isinstance(nets.unet, EagerUNet), "only eager's own networks get other kernels"
    _try(kernels, nets)
    unet = twin(nets.unet)
    fuse(unet.net)
    unet.cut()
    if nets.aside is not None:
        for net in unet.parts():
            joins(net, nets.aside)
    load = nets.load_control

    def load_control(folder: Path) -> EagerControlNet:
        assert load is not None, "the engine eager runs ControlNets"
        control = load(folder)
        assert isinstance(control, EagerControlNet)
        control.held = None  # its own kernels look at what they are given alone
        fuse(control.net)
        return control

    return replace(
        nets,
        unet=unet,
        load_control=load_control if load is not None else None,
        controlnets={},
        described=f"{nets.described}, {KERNELS[kernels]}",
    )


def twin(unet: EagerUNet) -> EagerUNet:
    """Other modules over the same weights. What is known ahead is computed by the first one's, for both."""
    with torch.device("meta"):
        net = type(unet.net).from_config(unet.net.config).requires_grad_(False)
    with torch.inference_mode():
        net.load_state_dict(unet.net.state_dict(), assign=True)
    other = EagerUNet(net.eval(), unet.dtype, unet.spec)
    other.attention = unet.attention
    install(net)
    if unet.ahead is not None:
        hand_over(net)
        other.ahead = unet.ahead
    return other


def fuse(net: Any) -> int:
    """Have a UNet2DConditionModel, or a ControlNetModel, normalise by `engines.groupnorm`; in how many places."""
    places = 0
    release(net)
    for part in list(net.modules()):
        if type(part) is ResnetBlock2D and _usual(part):
            part.__class__ = Fused
            places += 2
        elif type(part) is Transformer2DModel and type(part.norm) is nn.GroupNorm:
            part.norm.__class__ = Normed
            places += 1
    if type(getattr(net, "conv_norm_out", None)) is nn.GroupNorm and type(net.conv_act) is nn.SiLU:
        net.conv_norm_out.__class__, net.conv_act = NormedSilu, nn.Identity()
        places += 1
    return places


def _usual(resnet: Any) -> bool:
    return (
        resnet.time_emb_proj is not None
        and resnet.upsample is None
        and resnet.downsample is None
        and type(resnet.nonlinearity) is nn.SiLU
        and resnet.time_embedding_norm in ("default", "scale_shift")
        and type(resnet.norm1) is type(resnet.norm2) is nn.GroupNorm
    )


def _try(kernels: Kernels, nets: Nets) -> None:
    """Run them once, small: whatever a compiler or a card has against them is said here, and not in a frame."""
    if why := groupnorm.missing():
        raise ModelError(f"{KERNELS[kernels]} can't be had: {why}")
    x = torch.linspace(-3.0, 5.0, 32 * 64, device=nets.device).reshape(1, 32, 8, 8).sin().to(nets.dtype)
    x, norm = x.contiguous(memory_format=torch.channels_last), nn.GroupNorm(8, 32).to(nets.device, nets.dtype)
    try:
        with torch.inference_mode():
            found = normed(x, norm, act=True, shift=x[:, :, 0, 0]).float()
            wanted = F.silu(F.group_norm(x.float() + x[:, :, :1, :1].float(), 8))
            right = bool((found - wanted).abs().max() < 0.05)
    except Exception as error:  # triton's compiler has error types of its own, and a card's driver has others
        raise ModelError(f"{KERNELS[kernels]} can't be had: {first_line(error)}") from error
    if not right:
        raise ModelError(f"{KERNELS[kernels]} can't be had: they compute something else here")
