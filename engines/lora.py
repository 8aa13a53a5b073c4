"""LoRAs that are fused into a UNet while it loads, such as LCM-LoRA and Hyper-SD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engines.errors import ModelError
from engines.weights import check_file


def fuse(unet: Any, loras: tuple[tuple[Path, float], ...]) -> None:
    """Add each LoRA, times its weight, to the UNet's own weights. Raises ModelError for one that does not fit."""
    for path, weight in loras:
        check_file(path)
        try:
            _fuse_one(unet, path, weight)
        except (ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelError(f"the LoRA {path.name} does not fit this model: {_first_line(error)}") from error


def _fuse_one(unet: Any, path: Path, weight: float) -> None:
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
    from safetensors.torch import load_file

    found = StableDiffusionLoraLoaderMixin.lora_state_dict(load_file(path), unet_config=unet.config)
    tensors, alphas = found[0], found[1]
    if not any(name.startswith("unet.") for name in tensors):
        raise ValueError("it has no weights for a UNet")
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(tensors, network_alphas=alphas, unet=unet)
    with torch.no_grad():
        unet.fuse_lora(lora_scale=weight)
    unet.unload_lora()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
