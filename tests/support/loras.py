"""Small LoRAs with random factors, made for a given model and written in each of the layouts that there are."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engines import modelfile
from tests.support import ldm

TEXTS = {"text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
ATTENTION = r".*attn[12]\.(to_[qkv]|to_out\.0)"
LAYERS = rf"{ATTENTION}|.*ff\.net\.(0\.proj|2)|.*proj_(in|out)|.*self_attn\.\w+_proj|.*mlp\.fc\d"
CONVS = rf"{LAYERS}|.*resnets.*conv[12]|.*samplers\.0\.conv|.*conv_shortcut|.*time_emb_proj"


class Factors(NamedTuple):
    """Of one layer: up [out, r] or [out, r, 1, 1], down [r, in] or [r, in, k, k], and alpha."""

    down: Any
    up: Any
    alpha: float


Made = dict[tuple[str, str], Factors]
"""By component of the pipeline and path of the layer, as diffusers' and older transformers' names go."""


def networks(model: Path) -> dict[str, Any]:
    """The denoiser and text encoders of a folder, by component."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip import modeling_clip

    out: dict[str, Any] = {"unet": UNet2DConditionModel.from_pretrained(model / "unet", local_files_only=True)}
    for name, cls in zip(TEXTS, (modeling_clip.CLIPTextModel, modeling_clip.CLIPTextModelWithProjection), strict=True):
        if (model / name).is_dir():
            out[name] = cls.from_pretrained(model / name, local_files_only=True)
    return out


def make(
    model: Path, seed: int = 1, rank: int = 4, layers: str = LAYERS, alpha: float = 3.0, size: float = 0.3
) -> Made:
    """Random factors for all layers whose path matches. `size`: about how large the change is beside the weight."""
    return dict(_made(model, seed, rank, layers, alpha, size))


@functools.cache
def _made(model: Path, seed: int, rank: int, layers: str, alpha: float, size: float) -> Made:
    """One session's tests ask for the same few."""
    import torch

    generator, out = torch.Generator().manual_seed(seed), {}
    for component, net in networks(model).items():
        for path, layer in net.named_modules():
            weight = getattr(layer, "weight", None)
            weight = weight.detach() if weight is not None else None
            if weight is None or weight.ndim not in (2, 4) or not re.fullmatch(layers, path):
                continue
            near = component != "unet" and not path.startswith("text_model.")
            kernel = tuple(weight.shape[2:])
            down = torch.randn(rank, *weight.shape[1:], generator=generator)
            up = torch.randn(weight.shape[0], rank, *(1 for _ in kernel), generator=generator)
            change = (up.flatten(1) @ down.flatten(1)).std() * alpha / rank
            out[component, f"text_model.{path}" if near else path] = Factors(
                down, up * (size * float(weight.std() / change)), alpha
            )
    return out


def kohya(made: Made) -> dict[str, Any]:
    """As sd-scripts and LyCORIS write them for SD 1.5 and 2.1."""
    import torch

    out = {}
    for (component, path), (down, up, alpha) in made.items():
        prefix = {"unet": "lora_unet_", **TEXTS}[component]
        if component == "text_encoder" and any(name == "text_encoder_2" for name, _ in made):
            prefix = "lora_te1_"
        name = prefix + path.replace(".", "_")
        out |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(alpha)}
    return out


def kohya_ldm(made: Made, unet: Any) -> dict[str, Any]:
    """The same with the denoiser's layers under LDM names, as for SDXL. `unet` has two layers a block."""
    renamed = {}
    for (component, path), factors in made.items():
        if component == "unet":
            path = ldm._unet_name(f"{path}.weight", unet).removesuffix(".weight")
        renamed[component, path] = factors
    return kohya(renamed)


def diffusers_old(made: Made) -> dict[str, Any]:
    """As diffusers wrote the attention's LoRAs before it had PEFT. Alpha is the rank there."""
    out = {}
    for (component, path), (down, up, _) in made.items():
        if component == "unet":
            stem = re.sub(r"\.(to_[qkv]|to_out)(\.0)?$", r".processor.\1_lora", path)
        else:
            stem = f"{path}.lora_linear_layer"
        out |= {f"{component}.{stem}.down.weight": down, f"{component}.{stem}.up.weight": up}
    return out


def peft(made: Made) -> dict[str, Any]:
    """As diffusers writes them now; alpha is in the metadata."""
    return {
        f"{component}.{path}.{name}.weight": tensor
        for (component, path), factors in made.items()
        for name, tensor in (("lora_A", factors.down), ("lora_B", factors.up))
    }


def metadata(made: Made) -> dict[str, str]:
    """What goes with `peft`: one alpha for each component."""
    values: dict[str, object] = {}
    for (component, path), factors in made.items():
        values |= {f"{component}.lora_alpha": factors.alpha, f"{component}.r": factors.down.shape[0]}
        values |= {f"{component}.use_dora": False, f"{component}.bias": "none"}
        values.setdefault(f"{component}.target_modules", [])
        values[f"{component}.target_modules"].append(path.removeprefix("text_model."))  # type: ignore[attr-defined]
    return {"lora_adapter_metadata": json.dumps(values)}


def write(path: Path, tensors: Mapping[str, Any], extra: dict[str, str] | None = None) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, extra)
    return path


def register(files: Mapping[str, Path], family: str = "other") -> None:
    """Put them into the user's models.toml, in place of what is there."""
    file = modelfile.user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    tables = (f'[loras.{name}]\nfamily = "{family}"\npath = "{path.as_posix()}"\n' for name, path in files.items())
    file.write_text("\n".join(tables))
