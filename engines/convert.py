"""A checkpoint in one file (the LDM naming that most shared models use) into a diffusers folder.

The conversion is diffusers' own (`from_single_file`), with our configs of the three families instead of the hub's, and
no network. Such a file holds no tokenizer: CLIP's vocabulary is the same in all three families, so it is taken from
any model that is already here. torch and diffusers are imported inside: this runs in `livelatent models add` only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines import paths, weights
from engines.errors import ModelError
from engines.header import TensorInfo, read_header
from engines.modelrows import Family

_UNET_IN = "model.diffusion_model.input_blocks.0.0.weight"
_CONTEXT = "attn2.to_k.weight"
_TEXT_KEYS: dict[str, Family] = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd21",
    "cond_stage_model.transformer.": "sd15",
}
_VOCABULARY = ("vocab.json", "merges.txt")
CLIP_VOCABULARY = 49408
SCALE: dict[Family, int] = {"sd15": 768, "sd21": 1024, "sdxl": 2048}
"""Width of the text that each family's UNet attends to."""


def detect(tensors: Mapping[str, TensorInfo], name: str) -> Family:
    """The family of a checkpoint, from the names in its header. ModelError says what it is if it is no whole model."""
    first = tensors.get(_UNET_IN)
    if first is None:
        raise ModelError(f"{name} is not a checkpoint that we can convert: {_what(tensors)}")
    if len(first.shape) != 4 or first.shape[1] != 4:
        raise ModelError(f"{name} takes {first.shape[1:2]} channels: an inpainting or edit model, which we can't run")
    families = [family for prefix, family in _TEXT_KEYS.items() if any(key.startswith(prefix) for key in tensors)]
    if not families:
        raise ModelError(f"{name} holds no text encoder: we need the whole checkpoint, not the pruned UNet")
    if not any(key.startswith(("first_stage_model.", "vae.")) for key in tensors):
        raise ModelError(f"{name} holds no autoencoder: we need the whole checkpoint")
    return families[0]


def _what(tensors: Mapping[str, TensorInfo]) -> str:
    if any("lora" in key for key in tensors):
        return "it is a LoRA (add it with --kind lora, or over a model with --lora)"
    if any(key.startswith(("control_model.", "controlnet_")) for key in tensors):
        return "it is a ControlNet"
    if any(key.startswith(("down_blocks.", "encoder.", "decoder.")) for key in tensors):
        return "it is a single network in the diffusers layout; add the folder that holds model_index.json"
    return "it has no UNet under the names of Stable Diffusion"


def templates(family: Family) -> Path:
    """The configs of a family as shipped: a diffusers folder without weights and vocabulary."""
    return paths.data("configs") / "families" / family


def vocabulary(folders: list[Path]) -> Path:
    """The first tokenizer folder that holds CLIP's vocabulary. Raises ModelError when no model here has one."""
    for folder in folders:
        tokenizer = folder / "tokenizer"
        complete = all((tokenizer / name).is_file() for name in _VOCABULARY)
        if complete and len(weights.read_json(tokenizer / "vocab.json", "vocab.json")) == CLIP_VOCABULARY:
            return tokenizer
    raise ModelError(
        "a checkpoint in one file has no tokenizer, and no model here has CLIP's yet: "
        "run `livelatent models pull sd15-lcm` once (or any other), then add it again"
    )


def convert(
    file: Path, family: Family, tokenizer: Path, target: Path, prediction: str = "", configs: Path | None = None
) -> None:
    """Write `file` as a diffusers folder at `target`, which must not exist. Raises ModelError with a sentence.

    Weights are stored as float16 (bfloat16 where the file has that), named without a variant. `prediction` is what the
    UNet predicts where that is not epsilon (no tensor tells it: SD 2.1 for 768² has v_prediction). `configs` replaces
    the family's own configs: for checkpoints of the same build in another size.
    """
    name = file.name
    tensors = read_header(file.resolve(), name)
    found = detect(tensors, name)
    if found != family:
        raise ModelError(f"{name} is a {found} checkpoint, not {family}")
    configs = configs or templates(family)
    _check_context(tensors, configs, name)
    shutil.copytree(configs, target)
    for folder in target.glob("tokenizer*"):
        for part in _VOCABULARY:
            shutil.copyfile(tokenizer / part, folder / part)
    if prediction:
        scheduler = target / "scheduler" / "scheduler_config.json"
        values = weights.read_json(scheduler, scheduler.name)
        scheduler.write_text(json.dumps({**values, "prediction_type": prediction}, indent=2) + "\n")
    bf16 = sum(tensor.dtype == "BF16" for tensor in tensors.values()) > len(tensors) // 2
    _convert_networks(file, configs, target, "bfloat16" if bf16 else "float16")


def _check_context(tensors: Mapping[str, TensorInfo], configs: Path, name: str) -> None:
    want = weights.read_json(configs / "unet" / "config.json", "unet/config.json")["cross_attention_dim"]
    widths = {tensor.shape[-1] for key, tensor in tensors.items() if key.endswith(_CONTEXT) and tensor.shape}
    if widths != {want}:
        raise ModelError(f"{name} attends to text of width {sorted(widths)}, its family to {want}")


def _convert_networks(file: Path, configs: Path, target: Path, dtype_name: str) -> None:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from safetensors.torch import load_file
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    checkpoint = load_file(file.resolve())
    common: dict[str, Any] = {"config": str(configs), "local_files_only": True}
    texts = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if not (configs / part).is_dir():
            continue
        try:
            if part in texts:
                net = create_diffusers_clip_model_from_ldm(texts[part], dict(checkpoint), subfolder=part, **common)
            else:
                net_class = UNet2DConditionModel if part == "unet" else AutoencoderKL
                net = net_class.from_single_file(dict(checkpoint), subfolder=part, **common)
        except NotImplementedError as error:  # what torch says when a tensor that nothing filled is cast
            raise ModelError(f"{file.name}: its {part} is incomplete") from error
        except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{file.name}: its {part} can't be converted: {str(error).splitlines()[0][:200]}"
            ) from error
        _refuse_holes(net, f"{file.name}: its {part}")
        net.to(getattr(torch, dtype_name)).save_pretrained(target / part, safe_serialization=True)


def _refuse_holes(net: Any, what: str) -> None:
    """Tensors that the file did not fill would paint noise without a word."""
    missing = [key for key, tensor in net.state_dict().items() if tensor.is_meta]
    if missing:
        raise ModelError(f"{what} is incomplete: {len(missing)} tensors are missing, {missing[0]} among them")
