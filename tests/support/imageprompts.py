"""Small IP-Adapters and image encoders with random weights, made for a given model and loaded through the ordinary
code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines import modelfile

SIDE = 32
"""Of the square that the encoder sees."""
HIDDEN, EMBEDDING = 32, 24
HEADS = 2


def write_encoder(folder: Path, seed: int = 1, embedding: int = EMBEDDING) -> Path:
    """A CLIPVisionModelWithProjection of three layers. Says different things of different pictures."""
    import torch
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=HIDDEN, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4, image_size=SIDE,
        patch_size=8, projection_dim=embedding,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CLIPVisionModelWithProjection(config)
        for parameter in net.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.0 / parameter[0].numel() ** 0.5)
    net.save_pretrained(folder)
    return folder


def write_adapter(file: Path, model: Path, kind: str = "plain", seed: int = 1, seen: int = 0) -> Path:
    """An IP-Adapter for the UNet of `model`, in the public layout: 4 tokens, or for Plus 5 through four layers."""
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from safetensors.torch import save_file

    unet = UNet2DConditionModel.from_pretrained(model / "unet", local_files_only=True)
    width = int(unet.config.cross_attention_dim)
    random = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random) * gain / columns**0.5

    def vector(length: int, middle: float = 0.0) -> torch.Tensor:
        return middle + 0.1 * torch.randn(length, generator=random)

    make = _plus if kind == "plus" else _plain
    tensors: dict[str, torch.Tensor] = make(matrix, vector, width, seen)
    paths = [name for name, _ in unet.named_modules() if name.endswith(".attn2")]
    for number, path in enumerate(paths):
        inner = unet.get_submodule(path).to_k.out_features
        for part in "kv":
            tensors[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = matrix(inner, width, 3.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)
    return file


def _plain(matrix: Any, vector: Any, width: int, seen: int) -> dict[str, Any]:
    return {
        "image_proj.proj.weight": matrix(4 * width, seen or EMBEDDING),
        "image_proj.proj.bias": vector(4 * width),
        "image_proj.norm.weight": vector(width, 1.0),
        "image_proj.norm.bias": vector(width),
    }


def _plus(matrix: Any, vector: Any, width: int, seen: int) -> dict[str, Any]:
    hidden, inner = 48, 64 * HEADS
    tensors = {
        "latents": matrix(5, hidden)[None],
        "proj_in.weight": matrix(hidden, seen or HIDDEN),
        "proj_in.bias": vector(hidden),
        "proj_out.weight": matrix(width, hidden),
        "proj_out.bias": vector(width),
        "norm_out.weight": vector(width, 1.0),
        "norm_out.bias": vector(width),
    }
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            tensors[f"layers.{layer}.{norm}.weight"] = vector(hidden, 1.0)
            tensors[f"layers.{layer}.{norm}.bias"] = vector(hidden)
        tensors[f"layers.{layer}.0.to_q.weight"] = matrix(inner, hidden)
        tensors[f"layers.{layer}.0.to_kv.weight"] = matrix(2 * inner, hidden)
        tensors[f"layers.{layer}.0.to_out.weight"] = matrix(hidden, inner)
        tensors[f"layers.{layer}.1.1.weight"] = matrix(4 * hidden, hidden)
        tensors[f"layers.{layer}.1.3.weight"] = matrix(hidden, 4 * hidden)
    return {f"image_proj.{name}": tensor for name, tensor in tensors.items()}


def register(adapters: Mapping[str, tuple[Path, Path]], family: str = "other", more: str = "") -> None:
    """Put them, each with its encoder, into the user's models.toml, in place of what is there."""
    file = modelfile.user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    tables = (
        f'[ipadapters.{name}]\nfamily = "{family}"\npath = {json.dumps(path.as_posix())}\n'
        f"encoder_path = {json.dumps(encoder.as_posix())}\n"
        for name, (path, encoder) in adapters.items()
    )
    file.write_text("\n".join([*tables, more]))
