"""Networks that make hints in the registry: an id in, a folder out. No torch here: the bridge imports this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines.entry import Entry, common
from engines.errors import ModelError
from engines.hintfiles import TELLING, networks, weights
from engines.modelrows import Download, HintKind, HintRow
from engines.places import absent, place, settled


class HintEntry(Entry, frozen=True, kw_only=True):
    """A network that a preprocessor looks through. `path` is its folder; `folder()` checks."""

    kind: HintKind

    @property
    def here(self) -> bool:
        if self.kind == "pose":
            return len(networks(self.path)) == 2
        return (self.path / "config.json").is_file() if self.kind == "depth" else bool(weights(self.path))

    def folder(self) -> Path:
        """Its local folder. Raises ModelError when it is not here, or leaves the folder it belongs in."""
        if not self.here:
            raise ModelError(self.wanting())
        return settled(self.path, self.origin)

    def wanting(self) -> str:
        """How to get it, in one short sentence: it must fit into a line of telemetry."""
        if self.origin == "added" and self.kind in TELLING:
            return f"{self.id} is not here: run `livelatent models add FILE.safetensors --id {self.id}`"
        return absent(self.id, self.origin, self.path)


def entry(file: Path, name: str, row: HintRow, downloads: Mapping[str, Download]) -> HintEntry:
    """A `[hintnets.ID]` table as an entry. Raises ModelError."""
    facts = common(f"{file}: hintnets", name, row, downloads, source=row.source)
    origin, path = place(file, name, row.folder, downloads.get(row.download))
    return HintEntry(**facts, kind=row.kind, origin=origin, path=path)
