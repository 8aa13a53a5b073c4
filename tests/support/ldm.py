"""Small models under the names that checkpoints in one file use (LDM): the inverse of what the conversion does.

Written from the published layout of such files, so that the conversion is tested against something other than itself.
"""

from __future__ import annotations

import re
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]

_UNET = [
    (r"time_embedding\.linear_1", "time_embed.0"), (r"time_embedding\.linear_2", "time_embed.2"),
    (r"add_embedding\.linear_1", "label_emb.0.0"), (r"add_embedding\.linear_2", "label_emb.0.2"),
    (r"conv_in", "input_blocks.0.0"), (r"conv_norm_out", "out.0"), (r"conv_out", "out.2"),
    (r"mid_block\.resnets\.0", "middle_block.0"), (r"mid_block\.attentions\.0", "middle_block.1"),
    (r"mid_block\.resnets\.1", "middle_block.2"),
]  # fmt: skip
_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip


def unet(net: Any) -> Tensors:
    """A UNet2DConditionModel's tensors under LDM names; three layers a level below, three above."""
    return {f"model.diffusion_model.{_unet_name(key, net)}": value for key, value in net.state_dict().items()}


def _unet_name(key: str, net: Any) -> str:
    for pattern, ldm in _UNET:
        if re.match(rf"{pattern}\.", key):
            return _resnet(re.sub(rf"^{pattern}", ldm, key))
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", key)
    assert found, key
    way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = bool(getattr(net.up_blocks[block], "attentions", None))
        return f"output_blocks.{3 * block + 2}.{2 if attends else 1}.{rest}"
    number = 3 * block + layer + (1 if way == "down" else 0)
    return _resnet(f"{'input' if way == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}.{rest}")


def _resnet(name: str) -> str:
    head, dot, tail = name.rpartition(".")
    stem, inner_dot, last = head.rpartition(".")
    if "transformer_blocks" in name:
        return name  # its norms are called the same, and stay
    return f"{stem}.{_RESNET[last]}{dot}{tail}" if inner_dot and last in _RESNET else name


def vae(net: Any) -> Tensors:
    """An AutoencoderKL's tensors under LDM names; its attention's linear layers are 1×1 convolutions there."""
    out: Tensors = {}
    levels = len(net.config.block_out_channels)
    for key, value in net.state_dict().items():
        name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample.", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = name.replace("to_out.0", "proj_out")
            name = re.sub(r"to_([qkv])", r"\1", name)
            value = value[:, :, None, None] if name.endswith("weight") and value.ndim == 2 else value
        out[f"first_stage_model.{name}"] = value
    return out


def clip(net: Any, prefix: str) -> Tensors:
    """A CLIPTextModel's tensors as such files hold them: under a prefix, with position ids besides."""
    state = {key if key.startswith("text_model.") else f"text_model.{key}": v for key, v in net.state_dict().items()}
    ids = torch.arange(net.config.max_position_embeddings)[None]
    return {prefix + key: value for key, value in {**state, "text_model.embeddings.position_ids": ids}.items()}


def open_clip(net: Any, prefix: str) -> Tensors:
    """A CLIP text network under OpenCLIP's names: query, key and value in one tensor, the projection transposed."""
    state = {key.removeprefix("text_model."): value for key, value in net.state_dict().items()}
    out = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"], "ln_final.bias": state["final_layer_norm.bias"],
    }  # fmt: skip
    if "text_projection.weight" in state:
        out["text_projection"] = state["text_projection.weight"].T.contiguous()
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for layer in range(net.config.num_hidden_layers):
        theirs, ours = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            parts = [state[f"{ours}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            out[f"{theirs}attn.in_proj_{kind}"] = torch.cat(parts)
            out[f"{theirs}attn.out_proj.{kind}"] = state[f"{ours}self_attn.out_proj.{kind}"]
            for name, ldm in names.items():
                out[f"{theirs}{ldm}.{kind}"] = state[f"{ours}{name}.{kind}"]
    return {prefix + key: value for key, value in out.items()}
