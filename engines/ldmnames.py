"""A UNet's layers under the names of the first Stable Diffusion code (LDM), which kohya's LoRAs for SDXL go by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_HEADS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
}
_RESNET = {
    "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MID = re.compile(r"mid_block\.((?:resnets|attentions)\.\d+)\.(.+)")


def unet_names(paths: Iterable[str], unet: Any) -> dict[str, str]:
    """LDM name to path, of those layers of a UNet2DConditionModel that have one."""
    layers = unet.config.layers_per_block
    if not isinstance(layers, int):
        return {}
    attends = [bool(getattr(block, "attentions", None)) for block in unet.up_blocks]
    named = {path: _name(path, layers, attends) for path in paths}
    return {name: path for path, name in named.items() if name}


def _name(path: str, layers: int, attends: list[bool]) -> str:
    if path in _HEADS:
        return _HEADS[path]
    if found := _MID.fullmatch(path):
        place = _MIDDLE.get(found[1])
        return f"middle_block.{place}.{_RESNET.get(found[2], found[2])}" if place else ""
    found = _BLOCK.fullmatch(path)
    if not found:
        return ""
    way, kind, rest = found[1], found[3], found[5]
    block, layer = int(found[2]), int(found[4])
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.{2 if attends[block] else 1}.{rest}"
    number = block * (layers + 1) + layer + (1 if way == "down" else 0)
    rest = _RESNET.get(rest, rest) if kind == "resnets" else rest
    return f"{'input' if way == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}.{rest}"
