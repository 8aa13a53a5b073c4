"""What a models.toml may say: the rows of its tables as written, their ids, and the words that they use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engines import paths

Family = Literal["sd15", "sd21", "sdxl", "other"]
Emphasis = Literal["scale", "difference"]
Sampler = Literal["lcm", "turbo", "tcd", "ddim"]
HintKind = Literal["depth", "hed", "pidinet", "pose"]
"""What a network that makes hints finds out about a picture."""
Size = Annotated[int, Meta(ge=64, le=2048, multiple_of=64)]

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
NO_CONTROLNET = "none"
"""What a control unit names when it has none; no id."""
NO_LORA = NO_CONTROLNET
"""The same for a LoRA."""
NO_ADAPTER = NO_CONTROLNET
"""The same for an IP-Adapter."""


def is_id(text: object) -> bool:
    """Whether `text` is a model id: `[a-z0-9][a-z0-9_-]{0,63}`, and no name that Windows keeps for a device."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None and text not in _DEVICES


class Download(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Files of one repository at one commit, kept in `models/<id>` of the user's data folder."""

    id: str = ""
    repo: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}\Z")]
    revision: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][\w.-]{0,63}\Z")]
    """A commit; a branch name means that the first pull is trusted and its hashes are recorded."""
    files: Annotated[tuple[str, ...], Meta(min_length=1)]
    """fnmatch patterns of what is fetched."""
    sha256: dict[str, Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]] = {}
    licence: str
    size_mb: Annotated[int, Meta(ge=0)]
    variant: Literal["", "fp16"] = ""
    """`fp16` where the weights are named `*.fp16.safetensors`."""

    def folder(self) -> Path:
        """Where it is, or will be."""
        return paths.models() / self.id


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A LoRA over a model: a file of a download, or (the user's own models.toml) an absolute path."""

    download: str = ""
    file: str = ""
    path: str = ""
    weight: Annotated[float, Meta(ge=-4, le=4)] = 1.0


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[models.ID]` table as written."""

    title: str = ""
    family: Family = "other"
    licence: str = ""
    folder: str = ""
    """Shipped: below the package. The user's: absolute, or empty for `models/<id>` of his data folder."""
    download: str = ""
    variant: Literal["", "fp16"] = ""
    source: str = ""
    """Where an added model came from, for people."""
    sampler: Sampler = "lcm"
    steps: Annotated[int, Meta(ge=1, le=8)] = 4
    strength: Annotated[float, Meta(ge=0, le=1)] = 0.5
    guidance: Annotated[float, Meta(ge=0, le=20)] = 1.0
    width: Size = 512
    height: Size = 512
    emphasis: Emphasis = "scale"
    loras: tuple[Lora, ...] = ()
    tiny_vae: str = ""


class ControlRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[controlnets.ID]` table as written: a ControlNetModel in the diffusers layout."""

    title: str = ""
    family: Family = "other"
    """Of the models that it steers."""
    hint: str
    """What it was taught to be shown, for people."""
    preprocessor: str = "none"
    """What of ours makes that hint."""
    licence: str = ""
    folder: str = ""
    """As a model's: shipped below the package, the user's absolute or empty for `models/<id>`."""
    download: str = ""


class HintRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[hintnets.ID]` table as written: a network that a preprocessor looks through."""

    title: str = ""
    kind: HintKind
    licence: str = ""
    folder: str = ""
    """As a model's; without folder and download, `models/<id>`, which `livelatent models add` fills."""
    download: str = ""
    source: str = ""
    """Where its weights are to be had, or came from, for people."""


class LoraRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[loras.ID]` table as written: a file of a download, one at an absolute path (the user's own), or, with
    neither, `models/<id>/<id>.safetensors`."""

    title: str = ""
    family: Family = "other"
    """Of the models that it was made for."""
    licence: str = ""
    download: str = ""
    file: str = ""
    path: str = ""


class AdapterRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An `[ipadapters.ID]` table as written. The adapter is a file of a download or (the user's own) one at an absolute
    path; its image encoder is a folder of a download, which may be that of another adapter, or one at such a path."""

    title: str = ""
    family: Family = "other"
    """Of the models that it was made for."""
    licence: str = ""
    download: str = ""
    file: str = ""
    path: str = ""
    encoder: str = ""
    """Id of the download with the image encoder."""
    encoder_folder: str = ""
    """Where in that download it lies."""
    encoder_path: str = ""
