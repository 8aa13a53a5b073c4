"""Random networks as a model's folder in the diffusers layout: for engines that read files."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engines.base import Nets
from engines.eagernet import EagerUNet
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
    width = nets.unet.net.config.cross_attention_dim
    write_text(folder, TOKENS, hidden_size=width, intermediate_size=width, num_hidden_layers=1, num_attention_heads=2)
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


def write_text(folder: Path, length: int, words: Sequence[str] = (), suffix: str = "", **config: int) -> None:
    """A CLIP text encoder that was never taught, `text_encoder<suffix>`, and its tokenizer: prompts of `length` tokens.
    `config`: of transformers' CLIPTextConfig. One with a suffix gives a pooled embedding too."""
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

    known = write_tokenizer(folder / f"tokenizer{suffix}", length, words)
    clip = CLIPTextConfig(
        vocab_size=len(known),
        max_position_embeddings=length,
        bos_token_id=known[BEGIN],
        eos_token_id=known[END],
        pad_token_id=known[END],
        **config,
    )
    model = CLIPTextModelWithProjection(clip) if suffix else CLIPTextModel(clip)
    model.save_pretrained(folder / f"text_encoder{suffix}")


def write_tokenizer(folder: Path, length: int, words: Sequence[str] = ()) -> dict[str, int]:
    """CLIP's kind of byte-pair encoding: letters, and merges that make a few whole words. Digits are not in it."""
    merges = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    tokens = dict.fromkeys([*letters, *(a + b for a, b in merges), UNKNOWN, BEGIN, END])
    known = {token: number for number, token in enumerate(tokens)}
    _write(folder / "vocab.json", known)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": UNKNOWN}
    config = {**special, "model_max_length": length, "tokenizer_class": "CLIPTokenizer"}
    _write(folder / "tokenizer_config.json", config)
    return known


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
