"""CLIP's image encoder: what a picture is of, as numbers. From this machine alone, safetensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.errors import ModelError, first_line
from engines.ipfile import check_encoder
from engines.weights import read_json

MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pictures, for a folder that does not say its own."""


class VisionEncoder:
    """A CLIPVisionModelWithProjection with its picture processing, on the device."""

    def __init__(self, net: Any, mean: Tensor, spread: Tensor) -> None:
        """mean, spread: [1, 3, 1, 1]."""
        self._net, self._mean, self._spread = net, mean, spread
        self.side: int = net.config.image_size
        self.embedding: int = net.config.projection_dim
        self.hidden: int = net.config.hidden_size

    def prepare(self, image: Tensor) -> Tensor:
        """fp32 [1, 3, H, W] in 0..1 to the square that CLIP sees, [1, 3, side, side]: the middle, normalised."""
        height, width = image.shape[2:]
        short = min(height, width)
        size = (int(self.side * height / short), int(self.side * width / short))
        if size != (height, width):
            image = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
        top, left = (size[0] - self.side) // 2, (size[1] - self.side) // 2
        image = image[:, :, top : top + self.side, left : left + self.side]
        return (image - self._mean) / self._spread

    def blank(self) -> Tensor:
        """What stands for no picture: [1, 3, side, side]."""
        return torch.zeros(1, 3, self.side, self.side, device=self._mean.device)

    def embed(self, pixels: Tensor) -> Tensor:
        """What `prepare` gave, to one embedding [1, embedding]."""
        return self._net(pixels.to(self._net.dtype)).image_embeds  # type: ignore[no-any-return]

    def patches(self, pixels: Tensor) -> Tensor:
        """The same to the last but one layer, [1, patches + 1, hidden]."""
        return self._net(pixels.to(self._net.dtype), output_hidden_states=True).hidden_states[-2]  # type: ignore[no-any-return]


def load_encoder(folder: Path, device: torch.device, dtype: torch.dtype) -> VisionEncoder:
    """The image encoder in a transformers folder. Raises ModelError with a sentence."""
    check_encoder(folder)
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        net: Any = CLIPVisionModelWithProjection.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        mean, spread = _habits(folder)
        net = net.eval().requires_grad_(False).to(device)
        return VisionEncoder(net, _numbers(mean, device), _numbers(spread, device))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        # what transformers and safetensors raise for configs and weights that do not fit together
        raise ModelError(f"the image encoder {folder.name} can't be loaded: {first_line(error)}") from error


def _habits(folder: Path) -> tuple[list[float], list[float]]:
    path = folder / "preprocessor_config.json"
    given = read_json(path, path.name) if path.is_file() else {}
    mean, spread = given.get("image_mean") or MEAN, given.get("image_std") or SPREAD
    return [float(v) for v in mean], [float(v) for v in spread]


def _numbers(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, 3, 1, 1)
