"""IP-Adapters (Ye et al. 2023): pictures as prompts, loaded beside a running stream and checked against its UNet.

From this machine alone, safetensors alone, after `engines.ipfile` has judged the file and the encoder's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.errors import ModelError, first_line
from engines.given import ImageBlocks, ImagePrompt
from engines.ipfile import AdapterShape, Layer, check_adapter
from engines.resampler import Projection, Resampler
from engines.vision import VisionEncoder, load_encoder

BLOCKS: Mapping[ImageBlocks, str] = {
    "all": "",
    "style": "up_blocks.0.attentions.1.",
    "layout": "down_blocks.2.attentions.1.",
}
"""Where in an SDXL UNet a picture's style and its layout act: Wang et al. 2024 (InstantStyle), section 3.2."""


class EagerImageAdapter:
    """An adapter with its encoder. Implements engines.base.ImageAdapter.

    What every cross attention reads of a picture, its keys and values, does not change from frame to frame: it is
    computed when the picture is encoded, and the frame's own work is the attention alone.
    """

    def __init__(
        self, shape: AdapterShape, weights: Mapping[str, Tensor], encoder: VisionEncoder, layers: Sequence[Layer]
    ) -> None:
        """`weights`: the file's, on the device."""
        self._encoder, self._layers, self._tokens, self._plus = encoder, layers, shape.tokens, shape.kind == "plus"
        part = {name.removeprefix("image_proj."): value for name, value in weights.items()}
        self._project = Resampler(part) if self._plus else Projection(part)
        names = [f"ip_adapter.{2 * n + 1}.to_{kind}_ip.weight" for n in range(len(layers)) for kind in "kv"]
        self._readers = [weights[name] for name in names]
        self.size = sum(len(reader) for reader in self._readers) * shape.tokens
        self._without = self._read(self._project(self._see_nothing()))

    def __call__(self, image: Tensor, /) -> Tensor:
        """fp32 [1, 3, H, W] in 0..1 to [2, size]: what is read of no picture, for the negative prompt, and of this."""
        pixels = self._encoder.prepare(image)
        seen = self._encoder.patches(pixels) if self._plus else self._encoder.embed(pixels)
        return torch.cat([self._without, self._read(self._project(seen))])

    def prompt(self, rows: Tensor, scale: Tensor, blocks: ImageBlocks) -> ImagePrompt:
        """Views of `rows`, [B, size], as the UNet takes them."""
        acts = self.blocks(blocks)
        looks: list[tuple[Tensor, Tensor] | None] = []
        for index, layer in enumerate(self._layers):
            looks.append(self._views(rows, index, layer.heads) if acts[index] else None)
        return ImagePrompt(tuple(looks), scale)

    def blocks(self, blocks: ImageBlocks) -> tuple[bool, ...]:
        """Which cross attentions look at the picture; none of them where the UNet has no such block."""
        return tuple(layer.path.startswith(BLOCKS[blocks]) for layer in self._layers)

    def _see_nothing(self) -> Tensor:
        """As diffusers has it: for plain adapters an embedding of zeros, for Plus a picture of zeros."""
        if self._plus:
            return self._encoder.patches(self._encoder.blank())
        return self._readers[0].new_zeros(1, self._encoder.embedding)

    def _read(self, tokens: Tensor) -> Tensor:
        """[1, tokens, width] to the keys and values of all layers, [1, size]."""
        return torch.cat([F.linear(tokens, reader).flatten(1) for reader in self._readers], dim=1)

    def _views(self, rows: Tensor, index: int, heads: int) -> tuple[Tensor, Tensor]:
        """[B, heads, tokens, d] each."""
        at = sum(len(reader) for reader in self._readers[: 2 * index]) * self._tokens
        each = len(self._readers[2 * index]) * self._tokens
        parts = (rows[:, at + n * each : at + (n + 1) * each] for n in range(2))
        key, value = (part.view(len(part), self._tokens, heads, -1).transpose(1, 2) for part in parts)
        return key, value


class AdapterLoader:
    """Loads adapters for one UNet. Called on a thread of its own."""

    def __init__(self, layers: tuple[Layer, ...], device: torch.device, dtype: torch.dtype) -> None:
        self._layers, self._device, self._dtype = layers, device, dtype
        self._encoders: WeakValueDictionary[Path, VisionEncoder] = WeakValueDictionary()

    @torch.inference_mode()
    def __call__(self, file: Path, encoder: Path) -> EagerImageAdapter:
        """Raises ModelError, a sentence, for a file or an encoder that can't be used, or does not fit."""
        shape = check_adapter(file)
        self._compare(shape)
        eyes = self._encoders.get(encoder) or load_encoder(encoder, self._device, self._dtype)
        self._encoders[encoder] = eyes
        given = eyes.hidden if shape.kind == "plus" else eyes.embedding
        if given != shape.seen:
            raise ModelError(f"its image encoder gives {given} numbers and it takes {shape.seen}: it needs another one")
        try:
            adapter = EagerImageAdapter(shape, self._weights(file), eyes, self._layers)
            # finds out whether it works, and lets its kernels be chosen before a frame needs it
            found = adapter(torch.zeros(1, 3, eyes.side, eyes.side, device=self._device))
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{file.name} can't be loaded: {first_line(error)}") from error
        if not bool(torch.isfinite(found).all()):
            raise ModelError(f"{file.name} or its image encoder holds numbers that are not finite")
        return adapter

    def _compare(self, shape: AdapterShape) -> None:
        if not self._layers:
            raise ModelError("this model's denoiser is built in a way that no image adapter is made for")
        width = self._layers[0].width
        if shape.width != width:
            raise ModelError(
                f"it was made for another family of models: its tokens have {shape.width} numbers, this model's {width}"
            )
        if shape.layers != tuple(layer.inner for layer in self._layers):
            raise ModelError("it was made for another family of models: this denoiser has other cross attentions")

    def _weights(self, file: Path) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return {name: part.to(self._device, self._dtype) for name, part in load_file(file).items()}
