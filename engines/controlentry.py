"""ControlNets in the registry: an id in, a folder out. No torch here: the bridge imports this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines.entry import Entry, common
from engines.errors import ModelError
from engines.modelrows import ControlRow, Download, Family
from engines.places import absent, place, settled


class ControlEntry(Entry, frozen=True, kw_only=True):
    """A ControlNet, and what it was taught to be shown. `path` is its folder; `folder()` checks."""

    family: Family
    hint: str
    preprocessor: str

    @property
    def here(self) -> bool:
        return (self.path / "config.json").is_file()

    def folder(self) -> Path:
        """Its local diffusers folder. Raises ModelError when it is not here, or leaves the folder it belongs in."""
        if not self.here:
            raise ModelError(absent(self.id, self.origin, self.path))
        return settled(self.path, self.origin)


def entry(file: Path, name: str, row: ControlRow, downloads: Mapping[str, Download]) -> ControlEntry:
    """A `[controlnets.ID]` table as an entry. Raises ModelError."""
    facts = common(f"{file}: controlnets", name, row, downloads)
    origin, path = place(file, name, row.folder, downloads.get(row.download))
    return ControlEntry(
        **facts, family=row.family, hint=row.hint, preprocessor=row.preprocessor, origin=origin, path=path
    )
