"""Small ControlNets with random weights, made for a given model and loaded through the ordinary code."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

from engines import modelfile


def write_controlnet(folder: Path, model: Path, seed: int = 1, channels: int = 3) -> Path:
    """A ControlNetModel in `folder` that fits the UNet of `model`. Layers that are zero before training are random, and
    what it is shown goes through its first ones without fading."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _made(model, seed, channels).items():
        (folder / name).write_bytes(content)
    return folder


@functools.cache
def _made(model: Path, seed: int, channels: int) -> dict[str, bytes]:
    """Its files. One session's tests ask for the same few, each for a folder of its own."""
    import torch
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(model / "unet", local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(
            unet,
            conditioning_embedding_out_channels=(8, 8, 16, 16),
            conditioning_channels=channels,
            load_weights_from_unet=False,
        )
        embedding = net.controlnet_cond_embedding
        for part in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
            torch.nn.init.normal_(part.weight, std=2.0 / part.weight[0].numel() ** 0.5)
        for part in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            torch.nn.init.normal_(part.weight, std=0.5 / part.weight[0].numel() ** 0.5)
    with tempfile.TemporaryDirectory() as folder:
        net.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def register(folders: Mapping[str, Path], family: str = "other") -> None:
    """Put them into the user's models.toml, in place of what is there."""
    file = modelfile.user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    tables = (
        f'[controlnets.{name}]\nfamily = "{family}"\nhint = "anything"\nfolder = "{folder.as_posix()}"\n'
        for name, folder in folders.items()
    )
    file.write_text("\n".join(tables))
