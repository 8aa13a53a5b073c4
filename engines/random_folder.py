"""Random networks as a model's folder in the diffusers layout: for engines that read files."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch

from engines.base import Nets
from engines.eager import EagerUNet
from engines.random_nets import SCHEDULER, TOKENS, Kind, random_autoencoder

BEGIN, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"


@torch.inference_mode()
def write_random(folder: Path, kind: Kind, nets: Nets) -> None:
    """The denoiser of `nets` (`random_nets(kind, …)`), an autoencoder as theirs, and a text encoder of one layer, whose
    prompts have the real one's shape. Not for SDXL, which has two."""
    assert isinstance(nets.unet, EagerUNet), "only random networks are written"
    assert kind != "sdxl-turbo", "its second text encoder is not made here"
    nets.unet.net.save_pretrained(folder / "unet")
    random_autoencoder(kind, nets.device, nets.dtype).save_pretrained(folder / "vae")
    _write_text(folder, nets.unet.net.config.cross_attention_dim)
    _write(folder / "scheduler" / "scheduler_config.json", {"_class_name": "EulerDiscreteScheduler", **SCHEDULER})
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    }
    _write(folder / "model_index.json", index)


def _write_text(folder: Path, width: int) -> None:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    words = {token: number for number, token in enumerate([*letters, UNKNOWN, BEGIN, END])}
    _write(folder / "tokenizer" / "vocab.json", words)
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": UNKNOWN}
    _write(
        folder / "tokenizer" / "tokenizer_config.json",
        {**special, "model_max_length": TOKENS, "tokenizer_class": "CLIPTokenizer"},
    )
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=words[BEGIN],
        eos_token_id=words[END],
        pad_token_id=words[END],
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
