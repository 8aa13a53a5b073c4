"""The names of tensors in a LoRA's file: kohya's, diffusers' two, PEFT's. No torch: `models add` reads headers alone.

A LoRA adds scale * up @ down to the weights of a layer (Hu et al. 2021); a LoCon does so to convolutions too, with a
third factor in the middle if it is a Tucker decomposition (LyCORIS). Whatever else such files hold is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from engines.convert import SCALE
from engines.errors import ModelError
from engines.header import TensorInfo
from engines.modelrows import Family

Part = Literal["unet", "text", "text_2", ""]
"""Which network a layer belongs to; empty where the file does not say."""
MAX_RANK = 2048
SETTINGS = "adapter_config.json"
"""Where PEFT records alpha, beside a file of its own layout."""
_PREFIXES: tuple[tuple[str, Part], ...] = (
    ("lora_unet_", "unet"), ("lora_te1_", "text"), ("lora_te2_", "text_2"), ("lora_te_", "text"),
    ("unet.", "unet"), ("text_encoder_2.", "text_2"), ("text_encoder.", "text"), ("base_model.model.", ""),
)  # fmt: skip
_FACTOR = re.compile(
    r"(?P<layer>.+?)(?:\.lora_linear_layer|[._]lora)?[._](?:lora_)?(?P<factor>down|up|mid|A|B)(?:\.[\w-]+)?\.weight"
)
_ALPHA = re.compile(r"(?P<layer>.+?)(?:(?:\.lora_linear_layer|[._]lora)?[._](?:lora_)?down\.weight)?\.alpha")
_OLD_ATTENTION = re.compile(r"\.processor\.(to_[qkv]|to_out)$")
_FACTORS = {"down": "down", "up": "up", "mid": "mid", "A": "down", "B": "up"}
_OTHERS = (
    (("dora_scale", "lora_magnitude_vector"), "a DoRA, which also scales each column of the weights"),
    ((".hada_",), "a LoHa"),
    ((".lokr_",), "a LoKr"),
    ((".oft_", ".boft_"), "an OFT network"),
    ((".diff", ".diff_b"), "a file of whole differences, not a LoRA"),
    ((".a1.weight", ".b1.weight"), "a GLoRA"),
    ((".on_input",), "an IA3 network"),
    (("lora_B.bias", "lora_up.bias"), "a LoRA with biases"),
)
_ASIDE = ("bundle_emb.",)
"""Tensors that may lie in such a file and are no part of the LoRA: embeddings that belong to it."""


class Layer(NamedTuple):
    """Where a piece belongs: the network, and the layer's name with `_` for every dot."""

    part: Part
    name: str


@dataclass
class Piece:
    """The tensors for one layer, by their names in the file."""

    shown: str
    """The layer as the file calls it."""
    down: str = ""
    up: str = ""
    mid: str = ""
    alpha: str = ""


def is_lora(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether a file is a LoRA, or something like it that `pieces` will refuse by name."""
    names = [*tensors][:2000]
    marks = [mark for marks, _ in _OTHERS[:4] for mark in marks]
    return any(_factor(name) is not None or any(mark in name for mark in marks) for name in names)


def pieces(tensors: Mapping[str, TensorInfo], name: str) -> dict[Layer, Piece]:
    """The layers that a LoRA's header lists. Raises ModelError, a sentence, for what is no LoRA or is not whole."""
    for marks, what in _OTHERS:
        if any(
            key.endswith(mark) or (mark in key and not mark.startswith(".diff")) for key in tensors for mark in marks
        ):
            raise ModelError(f"{name} is {what}: livelatent has LoRA and LoCon alone")
    found: dict[Layer, Piece] = {}
    for key in tensors:
        if key.startswith(_ASIDE):
            continue
        match = _factor(key)
        alpha = _ALPHA.fullmatch(key) if match is None else None
        if match is None and alpha is None:
            raise ModelError(f"{name} is no LoRA that we know: it holds a tensor {key[:80]!a}")
        shown = (match or alpha)["layer"]  # type: ignore[index]  # one of the two is there
        piece = found.setdefault(_layer(shown), Piece(shown))
        what = _FACTORS[match["factor"]] if match else "alpha"
        if getattr(piece, what):
            raise ModelError(f"{name} has two tensors {what} for the layer {shown[:80]!a}")
        setattr(piece, what, key)
    if not found:
        raise ModelError(f"{name} is no LoRA: it holds no tensors of one")
    for piece in found.values():
        _check(piece, tensors, name)
    return found


def family(found: Mapping[Layer, Piece], tensors: Mapping[str, TensorInfo]) -> Family:
    """What kind of model a LoRA was made for, as far as its layers tell."""
    for layer, piece in found.items():
        if layer.part in ("unet", "") and layer.name.endswith(("attn2_to_k", "attn2_to_v")):
            width = tensors[piece.down].shape[1]
            return next((name for name, known in SCALE.items() if known == width), "other")
    return "sdxl" if any(layer.part == "text_2" for layer in found) else "other"


def _factor(key: str) -> re.Match[str] | None:
    found = _FACTOR.fullmatch(key)
    return found if found and "lora" in key else None


def _layer(shown: str) -> Layer:
    prefix, part = next(((text, part) for text, part in _PREFIXES if shown.startswith(text)), ("", ""))
    rest = shown.removeprefix(prefix)
    rest = _OLD_ATTENTION.sub(r".\1", rest)
    rest = f"{rest}.0" if rest.endswith(("attn1.to_out", "attn2.to_out")) else rest
    return Layer(part, flat(rest))


def flat(path: str) -> str:
    """A layer's path as `Layer.name` has it; text encoders lose what not every version of transformers begins with."""
    return path.replace(".", "_").removeprefix("text_model_")


def _check(piece: Piece, tensors: Mapping[str, TensorInfo], name: str) -> None:
    """That the factors of a layer go together."""
    layer = ascii(piece.shown[:80])
    if not piece.down or not piece.up:
        raise ModelError(f"{name} is not whole: the layer {layer} lacks one of its two factors")
    down, up = tensors[piece.down].shape, tensors[piece.up].shape
    mid = tensors[piece.mid].shape if piece.mid else ()
    inner = (mid[1], mid[0]) if len(mid) == 4 else (down[0], down[0]) if down else (0, 0)
    fits = len(down) in (2, 4) and len(up) in (2, 4) and down[0] == inner[0] and up[1] == inner[1]
    if not fits or 0 in (*down, *up, *mid) or (piece.mid and len(mid) != 4) or max(inner) > MAX_RANK:
        raise ModelError(f"{name} is not sound: the factors of the layer {layer} don't go together")
    if piece.alpha and tensors[piece.alpha].shape not in ((), (1,)):
        raise ModelError(f"{name} is not sound: alpha of the layer {layer} is not one number")
