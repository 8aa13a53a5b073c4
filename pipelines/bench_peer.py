"""The public StreamDiffusion (Kodaira et al. 2023), from a copy of its source, over networks of ours: measured beside
us in one run, with the same weights and sizes. Its package is imported only here, and only when a copy is named."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from engines.base import Nets
from engines.eagernet import EagerUNet
from engines.random_nets import SCHEDULER, Kind, random_autoencoder


class Peer:
    """One picture in, one out, as its README does it: acceleration by torch alone, one step."""

    def __init__(self, nets: Nets, kind: Kind, size: int, folder: str) -> None:
        root = Path(folder).resolve()
        sys.path.insert(0, str(root / "src" if (root / "src").is_dir() else root))
        theirs: Any = importlib.import_module("streamdiffusion")
        assert isinstance(nets.unet, EagerUNet), "their pipeline wants diffusers' own network"
        hidden = nets.text("a picture").cond[0]
        pipe = SimpleNamespace(
            unet=_as_loaded(nets.unet.net),
            vae=random_autoencoder(kind, nets.device, nets.dtype),
            text_encoder=None,
            tokenizer=None,
            vae_scale_factor=8,
            device=nets.device,
            scheduler=SimpleNamespace(config=SCHEDULER),
            encode_prompt=lambda **_: (hidden, hidden),
        )
        self._stream = theirs.StreamDiffusion(
            pipe, [32], torch_dtype=nets.dtype, width=size, height=size, cfg_type="none"
        )
        self._stream.prepare("a picture", num_inference_steps=50, guidance_scale=1.0)

    @torch.inference_mode()
    def __call__(self, picture: Tensor) -> Tensor:
        """[3, H, W] in 0..1 on the device; back on the host, as a picture has to be shown."""
        out: Tensor = self._stream(picture)
        return out.cpu()


@torch.inference_mode()
def _as_loaded(net: Any) -> Any:
    """A network of diffusers' own over the same weights: ours has been changed to be told what is known ahead."""
    with torch.device("meta"):
        theirs = type(net).from_config(net.config).requires_grad_(False)
    theirs.load_state_dict(net.state_dict(), assign=True)
    return theirs.eval()
