"""The LoRAs that livelatent knows by id: an id in, a file out. No torch here: the bridge imports this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines import paths
from engines.entry import Entry, common
from engines.errors import ModelError
from engines.modelrows import Download, Family, LoraRow
from engines.places import absent, confined


class LoraEntry(Entry, frozen=True, kw_only=True):
    """A LoRA, and what kind of model it was made for. `path` is its file; `file()` checks."""

    family: Family

    @property
    def here(self) -> bool:
        return self.path.is_file()

    def file(self) -> Path:
        """Its file here. Raises ModelError when it is not here, or leaves the folder it belongs in."""
        if not self.here:
            raise ModelError(absent(self.id, self.origin, self.path))
        if self.origin == "added" and not self.path.is_relative_to(paths.models()):
            return self.path.resolve()  # the user himself named this file
        return confined(self.path, paths.models())


def entry(file: Path, name: str, row: LoraRow, downloads: Mapping[str, Download]) -> LoraEntry:
    """A `[loras.ID]` table as an entry. Raises ModelError."""
    facts = common(f"{file}: loras", name, row, downloads)
    main = downloads.get(row.download)
    own = Path(row.path) if row.path else paths.models() / name / f"{name}.safetensors"
    path = main.folder() / row.file if main else own
    return LoraEntry(**facts, family=row.family, origin="pulled" if main else "added", path=path)
