"""Networks of public architectures with random weights, made on the device: to measure with, where no weights are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch

from engines.base import Nets, NetSpec, TensorSpec, Text
from engines.control import EagerControlNet, residual_shapes
from engines.eager import coders, without
from engines.eagernet import EagerNet, EagerUNet
from engines.outer import outer_of
from engines.window import EagerWindow, Painters, grid_of

Kind = Literal["sd15", "sd-turbo", "sdxl-turbo", "tiny"]
_THREE_AND_ONE = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
UNETS: Mapping[Kind, dict[str, Any]] = {
    "sd15": {**_THREE_AND_ONE, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd-turbo": {
        **_THREE_AND_ONE,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl-turbo": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "tiny": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
}
"""What differs from diffusers' defaults, in the models' own config.json."""
TOKENS, POOLED, SIZES = 77, 1280, 6
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
    "prediction_type": "epsilon",
}


class RandomText:
    """A prompt that means nothing. Implements engines.base.TextNet."""

    def __init__(self, outputs: tuple[TensorSpec, ...], device: torch.device) -> None:
        self.spec = NetSpec((), outputs, device)

    def __call__(self, prompt: str, /) -> Text:
        generator = torch.Generator().manual_seed(len(prompt))
        cond = (torch.randn(out.shape, generator=generator).to(out.dtype) for out in self.spec.outputs)
        return Text(tuple(part.to(self.spec.device) for part in cond), 1, ())


@torch.inference_mode()
def random_nets(kind: Kind, size: tuple[int, int], device: torch.device, dtype: torch.dtype, seed: int = 1) -> Nets:
    """`size`: (height, width). The autoencoder is TAESD's; what it paints is never all one colour."""
    with without("peft", "scipy"):
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    latent = 4, size[0] // 8, size[1] // 8
    with _random(device, dtype, seed):
        unet = _ready(UNet2DConditionModel(sample_size=latent[1], **UNETS[kind]))
    vae = random_autoencoder(kind, device, dtype, seed)
    cond: list[tuple[str, tuple[int, ...]]] = [("hidden", (1, TOKENS, unet.config.cross_attention_dim))]
    cond += [("pooled", (1, POOLED)), ("size", (1, SIZES))] if kind == "sdxl-turbo" else []
    text = RandomText(tuple(TensorSpec(name, shape, dtype) for name, shape in cond), device)
    encode, decode = coders(vae)
    x, t = TensorSpec("x", (1, *latent), torch.float32), TensorSpec("t", (), torch.float32)
    picture, hidden = (
        TensorSpec("image", (1, 3, *size), torch.float32),
        TensorSpec("latent", (1, *latent), torch.float32),
    )
    denoiser = EagerUNet(unet, dtype, NetSpec((x, t, *text.spec.outputs), (x._replace(name="out"),), device)).foresee()
    to = EagerNet(encode, dtype, NetSpec((picture,), (hidden,), device))
    back = EagerNet(decode, dtype, NetSpec((hidden,), (picture,), device))
    return Nets(
        unet=denoiser,
        encode=to,
        decode=back,
        text=text,
        scheduler=SCHEDULER,
        latent=latent,
        takes_guidance=False,
        device=device,
        dtype=dtype,
        described=f"{device.type} {str(dtype).removeprefix('torch.')}, {kind}, random weights",
        residuals=residual_shapes(unet.config, latent),
        outer=outer_of(unet.config, latent),
        window=EagerWindow(Painters(to, denoiser.surround(), back), grid_of(unet.config, 8), denoiser.numbers),
    )


@torch.inference_mode()
def random_autoencoder(kind: Kind, device: torch.device, dtype: torch.dtype, seed: int = 1) -> Any:
    """An AutoencoderTiny of TAESD's architecture."""
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    layers = {f"{way}_block_out_channels": (8,) * 4 for way in ("encoder", "decoder")} if kind == "tiny" else {}
    with _random(device, dtype, seed):
        vae = _ready(AutoencoderTiny(**layers))
        last = vae.decoder.layers[-1]  # untrained it paints black
        last.weight.mul_(8.0)
        last.bias.fill_(0.5)
    return vae


@torch.inference_mode()
def random_control(nets: Nets, seed: int = 2) -> EagerControlNet:
    """A ControlNet for networks of `random_nets`."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    assert isinstance(nets.unet, EagerUNet), "only random networks get random ControlNets"
    with _random(nets.device, nets.dtype, seed):
        net = _ready(ControlNetModel.from_unet(nets.unet.net, load_weights_from_unet=False))
        for part in (*net.controlnet_down_blocks, net.controlnet_mid_block):  # zero before training
            torch.nn.init.normal_(part.weight, std=0.02)
    outputs = tuple(TensorSpec(f"residual{i}", (1, *shape), nets.dtype) for i, shape in enumerate(nets.residuals))
    return EagerControlNet(net, nets.dtype, NetSpec(nets.unet.spec.inputs, outputs, nets.device)).foresee()


@contextmanager
def _random(device: torch.device, dtype: torch.dtype, seed: int) -> Iterator[None]:
    before = torch.get_default_dtype()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _ready(net: Any) -> Any:
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
