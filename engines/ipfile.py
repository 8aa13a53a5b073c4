"""IP-Adapters as files: what one holds, judged by its header before anything loads it. No torch here.

Their public layout (Ye et al. 2023): `image_proj.…` turns what an image encoder gives into tokens, and for the n-th
cross attention of the denoiser `ip_adapter.<2n+1>.to_k_ip.weight` and `to_v_ip.weight` read these. The encoder is a
transformers folder of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engines.errors import ModelError
from engines.header import TensorInfo, read_header
from engines.weights import check_loose, list_files, read_json

ENCODER_CLASS = "CLIPVisionModelWithProjection"
MAX_SIDE = 1024
"""Pixels of the square picture that an encoder sees."""
MAX_TOKENS = 1024
HEAD = 64
"""Numbers of each attention head in Plus's resampler; no file says it."""
_LAYER = re.compile(r"ip_adapter\.(\d{1,4})\.to_(k|v)_ip\.weight")
_PROJ = "image_proj."


class AdapterShape(NamedTuple):
    """What an adapter takes and gives."""

    kind: Literal["plain", "plus"]
    """plain reads the encoder's one embedding, Plus its last but one layer through a resampler."""
    seen: int
    """Numbers that it wants of the encoder, for the whole picture or for each patch."""
    tokens: int
    width: int
    """Numbers of a token, as the denoiser's text has them."""
    layers: tuple[int, ...]
    """Numbers that each cross attention works with, in the denoiser's order."""


class Layer(NamedTuple):
    """One cross attention of a denoiser."""

    path: str
    width: int
    """Numbers of a token that it reads."""
    inner: int
    """Numbers that it works with."""
    heads: int


def is_adapter(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether a header is that of an IP-Adapter, of whichever kind."""
    return any(name.startswith(_PROJ) for name in tensors) and any(name.startswith("ip_adapter.") for name in tensors)


def check_adapter(path: Path) -> AdapterShape:
    """Judge the file of an adapter. Raises ModelError with a sentence."""
    if not path.is_file():
        raise ModelError(f"{path.name} is not a file")
    tensors = read_header(path.resolve(), path.name)
    if not is_adapter(tensors):
        raise ModelError(f"{path.name} is no IP-Adapter: it has no image_proj and ip_adapter tensors")
    shapes = {name: info.shape for name, info in tensors.items()}
    try:
        kind, seen, tokens, width = _projection(shapes, path.name)
        layers = _layers(shapes, width, path.name)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"{path.name} is no whole IP-Adapter: {error} is missing or has another shape") from error
    if not 0 < tokens <= MAX_TOKENS:
        raise ModelError(f"{path.name} makes {tokens} tokens of a picture; at most {MAX_TOKENS} are taken")
    return AdapterShape(kind, seen, tokens, width, layers)


def _projection(shapes: dict[str, tuple[int, ...]], name: str) -> tuple[Literal["plain", "plus"], int, int, int]:
    if f"{_PROJ}proj.weight" in shapes and f"{_PROJ}latents" not in shapes:
        rows, seen = shapes[f"{_PROJ}proj.weight"]
        (width,) = shapes[f"{_PROJ}norm.weight"]
        if rows % width:
            raise ValueError(f"{_PROJ}proj.weight")
        return "plain", seen, rows // width, width
    if f"{_PROJ}latents" in shapes and f"{_PROJ}layers.0.0.to_q.weight" in shapes:
        _, tokens, hidden = shapes[f"{_PROJ}latents"]
        inner, seen = shapes[f"{_PROJ}proj_in.weight"]
        width, _ = shapes[f"{_PROJ}proj_out.weight"]
        if inner != hidden or shapes[f"{_PROJ}layers.0.0.to_q.weight"][0] % HEAD:
            raise ValueError(f"{_PROJ}layers.0.0.to_q.weight")
        return "plus", seen, tokens, width
    raise ModelError(f"{name} is an IP-Adapter of another kind, such as one for faces: we run plain ones and Plus")


def _layers(shapes: dict[str, tuple[int, ...]], width: int, name: str) -> tuple[int, ...]:
    found: dict[tuple[int, str], int] = {}
    for key, shape in shapes.items():
        if key.startswith(_PROJ):
            continue
        match = _LAYER.fullmatch(key)
        if match is None:
            raise ModelError(f"{name} holds {key[:80]!a}, which plain IP-Adapters and Plus have not")
        if shape[1:] != (width,):
            raise ValueError(key)
        found[int(match[1]), match[2]] = shape[0]
    numbers = range(1, 2 * len({number for number, _ in found}), 2)
    for number in numbers:
        if found.get((number, "k"), -1) != found.get((number, "v"), -2):
            raise ValueError(f"ip_adapter.{number}.to_k_ip.weight or its to_v_ip.weight")
    return tuple(found[number, "k"] for number in numbers)


def check_encoder(folder: Path) -> dict[str, Any]:
    """Judge an image encoder's folder before transformers sees it; its config. Raises ModelError with a sentence."""
    if not folder.is_dir():
        raise ModelError(f"the image encoder is missing: {folder} is not a folder")
    check_loose(folder)
    files = list_files(folder)
    for needed in ("config.json", "model.safetensors"):
        if needed not in files:
            raise ModelError(f"the image encoder {folder.name} has no {needed}")
    config = read_json(files["config.json"], "config.json")
    if config.get("architectures") != [ENCODER_CLASS]:
        raise ModelError(f"{folder.name} is {ascii(config.get('architectures'))[:80]}, not {ENCODER_CLASS}")
    side = config.get("image_size", 224)
    if not isinstance(side, int) or not 0 < side <= MAX_SIDE:
        raise ModelError(f"{folder.name} wants pictures of {ascii(side)[:20]} pixels; at most {MAX_SIDE} are shown")
    return config
