"""pocket's networks: their shapes, and the folder they are kept in (the ordinary diffusers layout)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderTiny, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from pipelines.pocket import text

Net = TypeVar("Net", AutoencoderTiny, UNet2DConditionModel, CLIPTextModel)
LATENTS = 32
"""Channels of a latent picture, 1/8 of the size. Thirty-two, not the usual four: with direct regression nothing is
gained by a tight bottleneck, thin lines need the room, and at the same noise level more of a picture survives."""
WIDTH = 128
"""Of a text token."""
BETAS = (1e-5, 0.009)
"""Ends of the scaled-linear schedule. Gentler than Stable Diffusion's: at strength 0.6 the input keeps as much power as
the noise has, so that one step can still see what it repaints."""


EMBEDDING = 0.4
"""Deviation of the token embeddings at the start. With CLIP's own 0.02 one word among 32 tokens is too faint to be
noticed, and the denoiser learns for a thousand steps before it reads its prompt."""


PLACES = 0.005
"""Deviation of the position embeddings at the start."""
LIFT = 0.3
"""What the last norm of the text encoder adds at the start. Weights in a prompt keep the mean of its embedding, which
must not be near zero for that."""


@dataclass(frozen=True)
class Sizes:
    """Widths; the tests train a far smaller one."""

    codec: int = 48
    encoder: tuple[int, ...] = (0, 1, 1, 2)
    decoder: tuple[int, ...] = (3, 1, 1, 0)
    unet: tuple[int, ...] = (96, 96, 128)
    text: int = WIDTH


SHIPPED = Sizes()
TINY = Sizes(codec=8, encoder=(0, 0, 0, 1), decoder=(1, 0, 0, 0), unet=(32, 32, 32), text=32)


def codec(sizes: Sizes) -> AutoencoderTiny:
    """uint8-like pictures, −1..1, (n, 3, h, w) ↔ latents (n, 32, h/8, w/8)."""
    return AutoencoderTiny(
        encoder_block_out_channels=(sizes.codec,) * 4,
        decoder_block_out_channels=(sizes.codec,) * 4,
        num_encoder_blocks=sizes.encoder,
        num_decoder_blocks=sizes.decoder,
        latent_channels=LATENTS,
    )


def unet(sizes: Sizes) -> UNet2DConditionModel:
    """Noised latents (n, 32, h, w), noise level (n,) in 0..999, text (n, tokens, width) → clean latents.

    The text acts twice: by cross attention, and pooled, beside the noise level, as scale and shift in every block. A
    style is a property of the whole picture, and the second way is the one by which it is learned first.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=sizes.unet,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=sizes.text,
        attention_head_dim=32 if sizes.text >= 64 else 8,
        norm_num_groups=16,
        use_linear_projection=True,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )


def control(net: UNet2DConditionModel, words: bool = False) -> ControlNetModel:
    """A ControlNet for `net`: hints (n, 3, h, w) in 0..1 → residuals for every skip of the U and for its middle.

    The usual class and the usual start (Zhang et al. 2023: a copy of the encoder, and outputs that begin at zero), but
    without cross attention. Where a line runs has nothing to do with the prompt; with `words` the net reads it pooled,
    as the denoiser does: what is to be added to a picture depends on what the denoiser is about to paint.
    """
    c = net.config
    out = ControlNetModel(
        in_channels=c.in_channels,
        down_block_types=c.down_block_types,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=c.block_out_channels,
        layers_per_block=c.layers_per_block,
        cross_attention_dim=c.cross_attention_dim,
        attention_head_dim=c.attention_head_dim,
        norm_num_groups=c.norm_num_groups,
        use_linear_projection=c.use_linear_projection,
        resnet_time_scale_shift=c.resnet_time_scale_shift,
        conditioning_embedding_out_channels=(16, 32, 64, c.block_out_channels[0]),
        addition_embed_type=c.addition_embed_type if words else None,
        addition_embed_type_num_heads=c.addition_embed_type_num_heads,
    )
    own = out.state_dict()
    shared = {k: v for k, v in net.state_dict().items() if k in own and own[k].shape == v.shape}
    out.load_state_dict(own | shared)
    return out


def encoder(sizes: Sizes, tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """Token ids (n, 32) → (n, 32, width)."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=sizes.text,
            intermediate_size=2 * sizes.text,
            projection_dim=sizes.text,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=text.TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=EMBEDDING)
    inner = getattr(model, "text_model", model)
    torch.nn.init.constant_(inner.final_layer_norm.bias, LIFT)
    # Padding says nothing by itself: it repeats what it attends to, where 28 tokens of its own would drown the words.
    torch.nn.init.zeros_(model.get_input_embeddings().weight[tokenizer.pad_token_id].detach())
    torch.nn.init.normal_(inner.embeddings.position_embedding.weight, std=PLACES)
    return model


def scheduler() -> DDIMScheduler:
    """The noise levels, as diffusers reads them. The network predicts the clean latents."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="scaled_linear",
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def save(
    folder: Path,
    vae: AutoencoderTiny,
    net: UNet2DConditionModel,
    words: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
) -> int:
    """Writes the model folder in fp16 safetensors; answers its size in bytes. The networks are left as they were."""
    for name, module in (("vae", vae), ("unet", net), ("text_encoder", words)):
        kept = {k: v.detach().clone() for k, v in module.state_dict().items()}
        config = module.config
        twin = type(module).from_config(config) if name != "text_encoder" else CLIPTextModel(config)
        twin.load_state_dict(kept)
        twin.half().save_pretrained(folder / name, safe_serialization=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    _amend(folder / "tokenizer" / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    _amend(folder / "vae" / "config.json", block_out_channels=None, _name_or_path=None)
    for name in ("unet", "text_encoder"):
        _amend(folder / name / "config.json", _name_or_path=None)
    scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def load(kind: type[Net], folder: Path, name: str) -> Net:
    """One network of a model folder, float32. OSError if it is not there."""
    out = kind.from_pretrained(folder, subfolder=name, local_files_only=True, use_safetensors=True)
    return out.float().eval()


def save_control(folder: Path, net: ControlNetModel) -> None:
    """Writes a ControlNet's folder in fp16 safetensors. The network is left as it was."""
    twin = ControlNetModel.from_config(net.config)
    twin.load_state_dict({k: v.detach().clone() for k, v in net.state_dict().items()})
    twin.half().save_pretrained(folder, safe_serialization=True)
    _amend(folder / "config.json", _name_or_path=None)


def _amend(path: Path, **values: object) -> None:
    """Changes keys of a JSON file; None drops one. (Newer libraries write names that older ones do not know, and a key
    that diffusers itself then warns of.)"""
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None or k not in values}, indent=2) + "\n")


@cache
def _log_snr() -> torch.Tensor:
    """Of every timestep, float64 (1000,)."""
    return torch.logit(scheduler().alphas_cumprod.double())


def alphas(t: torch.Tensor) -> torch.Tensor:
    """ᾱ at fractional timesteps 0..999, linear between the schedule's entries in log-SNR."""
    snr = _log_snr().to(t.device)
    low = t.double().floor().clamp(0, 998).long()
    level = snr[low] + (snr[low + 1] - snr[low]) * (t.double() - low)
    return torch.sigmoid(level).to(torch.float32)
