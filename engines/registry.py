"""The models, ControlNets, LoRAs, hint networks and image adapters livelatent knows: ids in, paths out.

Read from configs/models.toml and the user's own.

A model is named by id everywhere (OSC, HTTP, config files); only this module turns an id into a path, and only into
folders that ship, that `models pull` made, or that the user added himself. No torch here: the bridge imports this.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engines import ipentry, loraentry, modelfile, paths
from engines.errors import ModelError
from engines.hintfiles import HintEntry
from engines.ipentry import AdapterEntry
from engines.loraentry import LoraEntry
from engines.modelfile import (
    NO_ADAPTER,
    NO_CONTROLNET,
    NO_LORA,
    ControlRow,
    Download,
    Emphasis,
    Family,
    HintKind,
    HintRow,
    Lora,
    Row,
    Sampler,
    is_id,
)
from engines.places import Origin as Origin
from engines.places import absent, confined, place, settled

TINY_VAE: dict[Family, str] = {"sd15": "taesd", "sd21": "taesd", "sdxl": "taesdxl"}
"""The download with the small autoencoder that shares a family's latent space."""


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model and the values it runs best with."""

    id: str
    title: str
    family: Family
    origin: Origin
    path: Path
    """Its diffusers folder, whether or not it is there yet; `folder()` checks."""
    source: str
    """Repository, or where it was added from; empty for what ships."""
    revision: str
    licence: str
    size_mb: int
    """What `models pull` fetches, in 10^6 bytes; 0 for what ships or was added."""
    variant: str
    """`fp16` where its weights are named so; `engines.weights.check_folder` says it for each component."""
    sampler: Sampler
    steps: int
    strength: float
    guidance: float
    """1 is off; where the network takes guidance as an input (LCM), its scale."""
    width: int
    height: int
    emphasis: Emphasis
    """How words in a prompt get their weights: see engines.text."""
    loras: tuple[Lora, ...]
    tiny_vae: str
    """Id of the download with its small autoencoder; empty where the model's own is all there is."""
    downloads: tuple[Download, ...]
    """All that `models pull` fetches for it: the model first."""

    @property
    def here(self) -> bool:
        """Whether all it needs is on this machine (the tiny autoencoder excepted: the full one serves as well)."""
        loras = [paths.models() / path for path, _ in self._lora_paths()]
        return (self.path / "model_index.json").is_file() and all(path.is_file() for path in loras)

    def folder(self) -> Path:
        """Its local diffusers folder. Raises ModelError when it is not here, or leaves the folder it belongs in."""
        if not (self.path / "model_index.json").is_file():
            raise ModelError(self._absent(self.path))
        return settled(self.path, self.origin)

    def lora_files(self) -> list[tuple[Path, float]]:
        """Each LoRA's file and weight, in order. Raises ModelError when one is not here."""
        out = []
        for path, weight in self._lora_paths():
            if not (paths.models() / path).is_file():
                raise ModelError(self._absent(path))
            out.append((path if path.is_absolute() else confined(paths.models() / path, paths.models()), weight))
        return out

    def tiny_vae_folder(self) -> Path | None:
        """The folder of its small autoencoder, or None where there is none here (use the one in `folder()`)."""
        folder = paths.models() / self.tiny_vae
        if not self.tiny_vae or not (folder / "config.json").is_file():
            return None
        return confined(folder, paths.models())

    def _lora_paths(self) -> Iterator[tuple[Path, float]]:
        """Absolute, or relative to the models folder."""
        for lora in self.loras:
            yield Path(lora.path) if lora.path else Path(lora.download) / lora.file, lora.weight

    def _absent(self, path: Path) -> str:
        return absent(self.id, self.origin if path == self.path else "pulled", path)


class ControlEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A ControlNet, and what it was taught to be shown."""

    id: str
    title: str
    family: Family
    hint: str
    preprocessor: str
    origin: Origin
    path: Path
    """Its folder, whether or not it is there yet; `folder()` checks."""
    source: str
    """Repository; empty for what ships or was added."""
    licence: str
    size_mb: int
    downloads: tuple[Download, ...]

    @property
    def here(self) -> bool:
        return (self.path / "config.json").is_file()

    def folder(self) -> Path:
        """Its local diffusers folder. Raises ModelError when it is not here, or leaves the folder it belongs in."""
        if not self.here:
            raise ModelError(absent(self.id, self.origin, self.path))
        return settled(self.path, self.origin)


class Registry:
    """Every model, ControlNet, LoRA, hint network and image adapter by id. Immutable; open it again to see more."""

    def __init__(
        self,
        models: dict[str, ModelEntry],
        downloads: dict[str, Download],
        controlnets: dict[str, ControlEntry],
        loras: dict[str, LoraEntry],
        hintnets: dict[str, HintEntry],
        adapters: dict[str, AdapterEntry],
    ) -> None:
        self._models, self._controlnets, self._loras, self._hintnets = models, controlnets, loras, hintnets
        self._adapters = adapters
        self.downloads = downloads

    @classmethod
    def open(cls, extra: Path | None = None) -> Registry:
        """What ships, then the user's models.toml, then `extra`. Raises ModelError naming the file and the key."""
        downloads: dict[str, Download] = {}
        models: dict[str, ModelEntry] = {}
        controlnets: dict[str, ControlEntry] = {}
        loras: dict[str, LoraEntry] = {}
        hintnets: dict[str, HintEntry] = {}
        adapters: dict[str, AdapterEntry] = {}
        for path in (modelfile.shipped_file(), modelfile.user_file(), extra):
            if path is None or (path == modelfile.user_file() and not path.is_file()):
                continue
            new = modelfile.read(path)
            _refuse_taken(path, "downloads", new.downloads, downloads)
            _refuse_taken(path, "models", new.models, models)
            _refuse_taken(path, "controlnets", new.controlnets, controlnets | models | new.models)
            others = models | new.models | controlnets | new.controlnets
            _refuse_taken(path, "loras", new.loras, loras | hintnets | adapters | others)
            _refuse_taken(path, "hintnets", new.hintnets, hintnets | adapters | loras | new.loras | others)
            more = loras | new.loras | hintnets | new.hintnets
            _refuse_taken(path, "ipadapters", new.ipadapters, adapters | more | others)
            downloads |= new.downloads
            models |= {name: _entry(path, name, row, downloads) for name, row in new.models.items()}
            controlnets |= {name: _control(path, name, row, downloads) for name, row in new.controlnets.items()}
            loras |= {name: loraentry.entry(str(path), name, row, downloads) for name, row in new.loras.items()}
            hintnets |= {name: _hint(path, name, row, downloads) for name, row in new.hintnets.items()}
            adapters |= {name: ipentry.entry(path, name, row, downloads) for name, row in new.ipadapters.items()}
        return cls(models, downloads, controlnets, loras, hintnets, adapters)

    def ids(self) -> list[str]:
        """Every id, shipped ones first, in the order of the files."""
        return list(self._models)

    def get(self, model_id: str) -> ModelEntry:
        """The entry. Raises ModelError, naming near matches, when there is none."""
        return _find("model", model_id, self._models)

    def controlnet_ids(self) -> list[str]:
        """What a control unit may name: `none`, then every ControlNet, in the order of the files."""
        return [NO_CONTROLNET, *self._controlnets]

    def controlnet(self, controlnet_id: str) -> ControlEntry:
        """As `get`, of the ControlNets."""
        return _find("ControlNet", controlnet_id, self._controlnets)

    def lora_ids(self) -> list[str]:
        """What a LoRA's row may name: `none`, then every LoRA, in the order of the files."""
        return [NO_LORA, *self._loras]

    def lora(self, lora_id: str) -> LoraEntry:
        """As `get`, of the LoRAs."""
        return _find("LoRA", lora_id, self._loras)

    def hintnet_ids(self) -> list[str]:
        """Every network that makes hints, in the order of the files."""
        return list(self._hintnets)

    def hintnet(self, hintnet_id: str) -> HintEntry:
        """As `get`, of the hint networks."""
        return _find("hint network", hintnet_id, self._hintnets)

    def hintnet_for(self, kind: HintKind) -> HintEntry:
        """What a preprocessor that needs this kind looks through: of those that are here the one listed last, so that
        the user's own goes before ours; where none is, the last one, which says how to get it."""
        known = [entry for entry in reversed(self._hintnets.values()) if entry.kind == kind]
        return next((entry for entry in known if entry.here), known[0])

    def ipadapter_ids(self) -> list[str]:
        """What may make a prompt of pictures: `none`, then every IP-Adapter, in the order of the files."""
        return [NO_ADAPTER, *self._adapters]

    def ipadapter(self, adapter_id: str) -> AdapterEntry:
        """As `get`, of the IP-Adapters."""
        return _find("IP-Adapter", adapter_id, self._adapters)


Entry = TypeVar("Entry")


def _find(kind: str, name: str, known: dict[str, Entry]) -> Entry:
    entry = known.get(name) if is_id(name) else None
    if entry is not None:
        return entry
    text = str(name)[:64]
    near = difflib.get_close_matches(text.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
    raise ModelError(f"no {kind} {text!a}; {hint}")


def _refuse_taken(path: Path, kind: str, new: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
    for name in new.keys() & taken.keys():
        raise ModelError(f"{path}: {kind}.{name}: the id is already taken, there or in another models.toml")


def _control(file: Path, name: str, row: ControlRow, downloads: dict[str, Download]) -> ControlEntry:
    main = downloads.get(row.download)
    if row.download and not main:
        raise ModelError(f"{file}: controlnets.{name}: there is no [downloads.{row.download}]")
    origin, path = place(file, name, row.folder, main)
    return ControlEntry(
        id=name,
        title=row.title or name,
        family=row.family,
        hint=row.hint,
        preprocessor=row.preprocessor,
        origin=origin,
        path=path,
        source=main.repo if main else "",
        licence=row.licence or (main.licence if main else "not stated"),
        size_mb=main.size_mb if main else 0,
        downloads=(main,) if main else (),
    )


def _hint(file: Path, name: str, row: HintRow, downloads: dict[str, Download]) -> HintEntry:
    main = downloads.get(row.download)
    if row.download and not main:
        raise ModelError(f"{file}: hintnets.{name}: there is no [downloads.{row.download}]")
    origin, path = place(file, name, row.folder, main)
    return HintEntry(
        id=name,
        title=row.title or name,
        kind=row.kind,
        origin=origin,
        path=path,
        source=main.repo if main else row.source,
        licence=row.licence or (main.licence if main else "not stated"),
        size_mb=main.size_mb if main else 0,
        downloads=(main,) if main else (),
    )


def _entry(file: Path, name: str, row: Row, downloads: dict[str, Download]) -> ModelEntry:
    needed = dict.fromkeys([row.download, *(lora.download for lora in row.loras), row.tiny_vae])
    for need in filter(None, needed):
        if need not in downloads:
            raise ModelError(f"{file}: models.{name}: there is no [downloads.{need}]")
    main = downloads.get(row.download)
    origin, path = place(file, name, row.folder, main)
    same = ("family", "sampler", "steps", "strength", "guidance", "width", "height", "emphasis", "loras", "tiny_vae")
    fetched = tuple(downloads[need] for need in filter(None, needed))
    return ModelEntry(
        id=name,
        title=row.title or name,
        origin=origin,
        path=path,
        source=main.repo if main else row.source,
        revision=main.revision if main else "",
        licence=row.licence or (main.licence if main else "not stated"),
        size_mb=sum(download.size_mb for download in fetched),
        variant=main.variant if main else row.variant,
        downloads=fetched,
        **{key: getattr(row, key) for key in same},
    )
