"""Small model folders, whole and spoilt, made without torch."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
}
CONFIGS: dict[str, dict[str, Any]] = {
    "unet/config.json": {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768},
    "vae/config.json": {"_class_name": "AutoencoderKL", "latent_channels": 4},
    "text_encoder/config.json": {"architectures": ["CLIPTextModel"]},
    "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler"},
    "tokenizer/tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer"},
    "tokenizer/vocab.json": {"a": 0},
}
WEIGHTS = (
    "unet/diffusion_pytorch_model",
    "vae/diffusion_pytorch_model",
    "text_encoder/model",
)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def model_folder(folder: Path, variant: str = "") -> Path:
    """A sound SD 1.5 folder in the diffusers layout, of a few hundred bytes."""
    write_json(folder / "model_index.json", INDEX)
    for name, config in CONFIGS.items():
        write_json(folder / name, config)
    for stem in WEIGHTS:
        save_file(
            {"w": np.arange(8, dtype=np.float32)}, folder / f"{stem}{f'.{variant}' if variant else ''}.safetensors"
        )
    return folder


def tiny_vae_folder(folder: Path) -> Path:
    write_json(folder / "config.json", {"_class_name": "AutoencoderTiny"})
    save_file({"w": np.ones(4, dtype=np.float32)}, folder / "diffusion_pytorch_model.safetensors")
    return folder


def adapter_tensors(width: int = 768, seen: int = 8, layers: int = 2) -> dict[str, np.ndarray]:
    """What a plain IP-Adapter's file holds, with the smallest layers that there can be."""
    tensors = {
        "image_proj.proj.weight": np.ones((4 * width, seen), np.float16),
        "image_proj.proj.bias": np.ones(4 * width, np.float16),
        "image_proj.norm.weight": np.ones(width, np.float16),
        "image_proj.norm.bias": np.ones(width, np.float16),
    }
    for number in range(layers):
        for part in "kv":
            tensors[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = np.ones((4, width), np.float16)
    return tensors


def encoder_folder(folder: Path) -> Path:
    """An image encoder by its layout, of a few bytes."""
    write_json(folder / "config.json", {"architectures": ["CLIPVisionModelWithProjection"], "image_size": 32})
    save_file({"w": np.ones(4, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """The bytes of a safetensors file with this header: JSON, or bytes as they are."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


_watchers: list[list[tuple[str, Any]]] = []
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for seen in _watchers:
        if event in ("open", "exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class"):
            seen.append((event, arguments[0] if arguments else None))


@contextmanager
def audited() -> Iterator[list[tuple[str, Any]]]:
    """Every file opened and all code run meanwhile, as (event, first argument). An audit hook can't be removed, so
    there is one, and it is told whom to tell."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    seen: list[tuple[str, Any]] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)
