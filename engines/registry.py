"""The models, ControlNets, LoRAs, hint networks and image adapters livelatent knows: ids in, paths out.

Read from configs/models.toml and the user's own.

A model is named by id everywhere (OSC, HTTP, config files); only this module turns an id into a path, and only into
folders that ship, that `models pull` made, or that the user added himself. No torch here: the bridge imports this.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from engines import controlentry, hintentry, ipentry, loraentry, modelentry, modelfile
from engines.controlentry import ControlEntry
from engines.errors import ModelError
from engines.hintentry import HintEntry
from engines.ipentry import AdapterEntry
from engines.loraentry import LoraEntry
from engines.modelentry import ModelEntry
from engines.modelrows import NO_ADAPTER, NO_CONTROLNET, NO_LORA, Download, HintKind, is_id


class Registry:
    """Every model, ControlNet, LoRA, hint network and image adapter by id, which no two share, of whatever kind.
    Immutable; open it again to see more."""

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
        taken: set[str] = set()
        for path in (modelfile.shipped_file(), modelfile.user_file(), extra):
            if path is None or (path == modelfile.user_file() and not path.is_file()):
                continue
            new = modelfile.read(path)
            _refuse_taken(path, "downloads", new.downloads, downloads)
            for kind in ("models", "controlnets", "loras", "hintnets", "ipadapters"):
                rows = getattr(new, kind)
                _refuse_taken(path, kind, rows, taken)
                taken |= rows.keys()
            downloads |= new.downloads
            models |= {name: modelentry.entry(path, name, row, downloads) for name, row in new.models.items()}
            controlnets |= {
                name: controlentry.entry(path, name, row, downloads) for name, row in new.controlnets.items()
            }
            loras |= {name: loraentry.entry(path, name, row, downloads) for name, row in new.loras.items()}
            hintnets |= {name: hintentry.entry(path, name, row, downloads) for name, row in new.hintnets.items()}
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


def _refuse_taken(path: Path, kind: str, new: Mapping[str, Any], taken: Collection[str]) -> None:
    for name in new.keys() & set(taken):
        raise ModelError(f"{path}: {kind}.{name}: the id is already taken, there or in another models.toml")
