"""The LoRAs that livelatent knows by id: an id in, a file out. No torch here: the bridge imports this."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engines import paths
from engines.errors import ModelError
from engines.modelfile import Download, Family, LoraRow
from engines.places import Origin, absent, confined


class LoraEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA, and what kind of model it was made for."""

    id: str
    title: str
    family: Family
    origin: Origin
    path: Path
    """Its file, whether or not it is there yet; `file()` checks."""
    source: str
    """Repository; empty for what was added."""
    licence: str
    size_mb: int
    downloads: tuple[Download, ...]

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


def entry(where: str, name: str, row: LoraRow, downloads: dict[str, Download]) -> LoraEntry:
    """A `[loras.ID]` table as an entry; `where` is the file, for a sentence. Raises ModelError."""
    main = downloads.get(row.download)
    if row.download and not main:
        raise ModelError(f"{where}: loras.{name}: there is no [downloads.{row.download}]")
    own = Path(row.path) if row.path else paths.models() / name / f"{name}.safetensors"
    return LoraEntry(
        id=name,
        title=row.title or name,
        family=row.family,
        origin="pulled" if main else "added",
        path=main.folder() / row.file if main else own,
        source=main.repo if main else "",
        licence=row.licence or (main.licence if main else "not stated"),
        size_mb=main.size_mb if main else 0,
        downloads=(main,) if main else (),
    )
