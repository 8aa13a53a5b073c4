"""LoRAs for one loaded model: read, judged, and merged into its weights while it runs, or once and for all.

Loading (`Adapters.load`) happens beside the stream; merging belongs to the threads that run the networks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines import lorakeys
from engines.errors import ModelError
from engines.header import TensorInfo, read_header
from engines.ldmnames import unet_names
from engines.lorakeys import Layer, Piece
from engines.merge import Factors, Merger, Patch, in_order
from engines.weights import check_file

MAX_BYTES = 4 << 30
FOREIGN = 0.1
"""Of a LoRA's layers, more than this share may not be unknown to the model."""
_METADATA = "lora_adapter_metadata"
_MAX_SETTINGS = 1 << 20


class Lora:
    """A LoRA that fits one loaded model, on its device."""

    def __init__(self, unet: Patch, text: Sequence[Patch], note: str = "") -> None:
        self.unet = unet
        self.text = tuple(text)
        """For each text encoder."""
        self.note = note
        """What of it is left out, a sentence, or nothing."""

    @property
    def speaks(self) -> bool:
        """Whether it changes what a prompt means, so that prompts have to be encoded with it."""
        return any(self.text)


class Adapters:
    """LoRAs over one model. Implements engines.base.Adapters."""

    def __init__(self, unet: nn.Module, texts: Sequence[nn.Module] = ()) -> None:
        """`texts`: its text encoders, in order."""
        self.unet = Merger(unet)
        self.texts = tuple(Merger(text) for text in texts)
        self._names: dict[Layer, tuple[Merger, str]] = {}
        parts: list[tuple[lorakeys.Part, Merger]] = [("unet", self.unet)]
        parts += zip(("text", "text_2"), self.texts, strict=False)
        for part, merger in parts:
            for path in merger.layers:
                self._names[Layer(part, lorakeys.flat(path))] = (merger, path)
                self._names.setdefault(Layer("", lorakeys.flat(path)), (merger, path))
        for name, path in unet_names(self.unet.layers, unet).items():
            self._names.setdefault(Layer("unet", lorakeys.flat(name)), (self.unet, path))

    @torch.inference_mode()
    def load(self, path: Path) -> Lora:
        """Read and judge a LoRA, and be ready to merge it. Raises ModelError, a sentence; nothing was changed then."""
        tensors = read_header(path.resolve(), path.name)
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_BYTES >> 30} GB: no LoRA is")
        found = lorakeys.pieces(tensors, path.name)
        if not self.texts:
            found = {layer: piece for layer, piece in found.items() if not layer.part.startswith("text")}
        placed = {layer: self._names[layer] for layer in found if layer in self._names}
        lost = [piece.shown for layer, piece in found.items() if layer not in placed]
        if len(lost) > FOREIGN * len(found):
            raise ModelError(
                f"{path.name} is for another kind of model: of its {len(found)} layers, "
                f"this one has not {len(lost)}, {lost[0][:80]!a} among them"
            )
        if len({*placed.values()}) < len(placed):
            raise ModelError(f"{path.name} names a layer twice, in two ways: livelatent can't tell which counts")
        for layer, (merger, place) in placed.items():
            _check_shape(found[layer], tensors, merger.layers[place], path.name)
        patches = _read(path, {layer: found[layer] for layer in placed}, placed)
        note = f"{len(lost)} of its layers are not in this model and are left out" if lost else ""
        lora = Lora(patches[self.unet], [patches[text] for text in self.texts], note)
        for merger, patch in patches.items():
            merger.keep(patch)
        return lora

    def merge(self, wanted: Sequence[tuple[Lora, float]]) -> bool:
        """Give the denoiser these LoRAs, with these weights, and no others; between two frames, on their thread."""
        return self.unet.merge([(lora.unet, weight) for lora, weight in wanted])

    def speak(self, wanted: Sequence[tuple[Lora, float]]) -> None:
        """The same for the text encoders, between two texts."""
        for index, text in enumerate(self.texts):
            text.merge([(lora.text[index], weight) for lora, weight in wanted])


@torch.inference_mode()
def fuse(unet: Any, loras: Sequence[tuple[Path, float]]) -> None:
    """Add each LoRA, times its weight, to the UNet's own weights for good. Raises ModelError for one that does not
    fit, or has nothing for a UNet. What it has for text encoders is left out."""
    for path, weight in loras:
        adapters = Adapters(unet)
        check_file(path)
        try:
            lora = adapters.load(path)
        except ModelError as error:
            raise ModelError(f"the LoRA {path.name} does not fit this model: {error}") from error
        if not lora.unet:
            raise ModelError(f"the LoRA {path.name} does not fit this model: it has no weights for a UNet")
        adapters.merge([(lora, weight)])


def _check_shape(piece: Piece, tensors: Mapping[str, TensorInfo], weight: Tensor, name: str) -> None:
    down, up = tensors[piece.down].shape, tensors[piece.up].shape
    wanted = (weight.shape[0], math.prod(weight.shape[1:]))
    around = math.prod(tensors[piece.mid].shape[2:]) if piece.mid else 1
    given = (math.prod(up) // up[1], math.prod(down[1:]) * around)
    if given != wanted:
        raise ModelError(
            f"{name} is for a model of another size: its layer {piece.shown[:80]!a} is {given[0]} by {given[1]}, "
            f"this model's {wanted[0]} by {wanted[1]}"
        )


def _read(path: Path, found: Mapping[Layer, Piece], placed: Mapping[Layer, tuple[Merger, str]]) -> dict[Merger, Patch]:
    """The tensors of a file that has been judged, as factors in each weight's own order, type and place."""
    from safetensors import safe_open

    out: dict[Merger, dict[str, Factors]] = {}
    with safe_open(path, "pt") as file:
        settings = _settings(path, file.metadata() or {})
        for layer, piece in found.items():
            merger, place = placed[layer]
            weight = merger.layers[place]
            up, down = (file.get_tensor(key).float() for key in (piece.up, piece.down))
            rank = down.shape[0]
            alpha = float(file.get_tensor(piece.alpha)) if piece.alpha else settings.alpha(layer, place, rank)
            if piece.mid:
                mid = file.get_tensor(piece.mid).float()
                down = torch.einsum("pqhw,qi->pihw", mid, down.flatten(1))
            up = (up.flatten(1) * (alpha / rank)).to(weight).contiguous()
            down = in_order(down.reshape(len(down), *weight.shape[1:]), weight).reshape(len(down), -1)
            down = down.to(weight).contiguous()
            if not (bool(up.isfinite().all()) and bool(down.isfinite().all())):
                raise ModelError(f"{path.name}: the layer {piece.shown[:80]!a} has numbers that are not finite")
            out.setdefault(merger, {})[place] = Factors(up, down)
    mergers = {merger for merger, _ in placed.values()}
    return _Patches({merger: Patch(out[merger]) for merger in mergers})


class _Patches(dict[Merger, Patch]):
    """Of the networks that a file says nothing about: nothing."""

    def __missing__(self, merger: Merger) -> Patch:
        return Patch({})


class _Settings:
    """What PEFT records beside the tensors: alpha, by itself or for single layers. Without any, alpha is the rank."""

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._values = values
        for key, value in values.items():
            last = key.rpartition(".")[2]
            if last == "use_dora" and value:
                raise ModelError(f"{name} is a DoRA, which also scales each column of the weights: livelatent has LoRA")
            if last in ("bias", "lora_bias") and value not in (False, None, "none"):
                raise ModelError(f"{name} is a LoRA with biases: livelatent has LoRA and LoCon alone")

    def alpha(self, layer: Layer, path: str, rank: int) -> float:
        part = {"unet": "unet.", "text": "text_encoder.", "text_2": "text_encoder_2."}.get(layer.part, "")
        values = {key.removeprefix(part): value for key, value in self._values.items() if key.startswith(part)}
        patterns = values.get("alpha_pattern") or {}
        found = [value for key, value in patterns.items() if path == key or path.endswith(f".{key}")]
        alpha = float((found or [values.get("lora_alpha", rank)])[0])
        return alpha * rank**0.5 if values.get("use_rslora") else alpha


def _settings(path: Path, metadata: Mapping[str, str]) -> _Settings:
    """From the file's own header, as diffusers writes them, or from PEFT's file beside it."""
    beside = path.with_name(lorakeys.SETTINGS)
    try:
        text = metadata.get(_METADATA, "")
        if not text and beside.is_file() and beside.stat().st_size <= _MAX_SETTINGS:
            text = beside.read_text("utf-8")
        values = json.loads(text) if text else {}
        if not isinstance(values, dict):
            raise TypeError("no table")
        return _Settings(values, path.name)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path.name}: its settings can't be read: {str(error)[:100]}") from error
