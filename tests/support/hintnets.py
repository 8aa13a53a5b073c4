"""Small networks that make hints, with random weights, in the layouts that the public ones have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from engines import modelfile
from engines.edgenets import Hed, PiDiNet

HED = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def hed_weights(shrink: int = 8) -> dict[str, torch.Tensor]:
    """The published layout, `shrink` times narrower."""
    out, before = {"norm": torch.full((1, 3, 1, 1), 120.0)}, 3
    for i, (full, depth) in enumerate(HED):
        width = full // shrink
        for j in range(depth):
            out[f"block{i + 1}.convs.{j}.weight"] = torch.randn(width, width if j else before, 3, 3) * 0.15
            out[f"block{i + 1}.convs.{j}.bias"] = torch.randn(width) * 0.1
        out[f"block{i + 1}.projection.weight"] = torch.randn(1, width, 1, 1) * 0.02
        out[f"block{i + 1}.projection.bias"] = torch.randn(1)
        before = width
    return out


def lively_hed(picture: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same, sharpest side output alone, with an answer to [1, 3, H, W] that uses the whole range."""
    weights = hed_weights()
    for i in range(2, 6):
        weights[f"block{i}.projection.weight"].zero_()
        weights[f"block{i}.projection.bias"].zero_()
    with torch.inference_mode():
        answer = Hed.of(weights).eval()(picture).clamp(1e-6, 1 - 1e-6).logit()
        weights["block1.projection.bias"] -= 5 * answer.median()
    for name in ("weight", "bias"):
        weights[f"block1.projection.{name}"] /= answer.std()
    return weights


def pidinet_weights(width: int = 4, dilation: int = 3) -> dict[str, torch.Tensor]:
    """As trained: every pixel difference kernel is 3x3, names begin with `module.`."""
    out = {}
    for name, tensor in PiDiNet(width, dilation).state_dict().items():
        shape = (*tensor.shape[:2], 3, 3) if tensor.shape[-1:] == (5,) else tensor.shape
        out[f"module.{name}"] = torch.randn(shape) * 0.3
    return out


def write_depth(folder: Path, kind: str) -> Path:
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTConfig,
        DPTForDepthEstimation,
    )

    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        if kind == "depth-anything":
            backbone = Dinov2Config(**small, patch_size=14, out_indices=[1, 2, 3, 4], apply_layernorm=True,
                                    reshape_hidden_states=False)  # fmt: skip
            net = DepthAnythingForDepthEstimation(
                DepthAnythingConfig(backbone_config=backbone, patch_size=14, reassemble_hidden_size=16,
                                    neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=4)
            )  # fmt: skip
            for p in net.head.parameters():
                p.data.abs_().mul_(8)  # untrained, its last rectifier would give zero everywhere
        else:
            net = DPTForDepthEstimation(
                DPTConfig(**small, intermediate_size=32, patch_size=14, backbone_out_indices=[0, 1, 2, 3],
                          is_hybrid=False, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8)
            )  # fmt: skip
            for p in net.head.parameters():
                p.data.abs_().mul_(8)
        net.save_pretrained(folder)
    given = {"size": {"height": 56, "width": 56}, "ensure_multiple_of": 14,
             "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    return folder


def register(folders: Mapping[str, tuple[str, Path]]) -> None:
    """Add them, id to kind and folder, to the user's models.toml."""
    for name, (kind, folder) in folders.items():
        modelfile.add(name, {"kind": kind, "folder": folder.as_posix()}, kind="hintnets")
