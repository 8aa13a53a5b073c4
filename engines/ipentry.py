"""IP-Adapters in the registry: an id in, the adapter's file and its image encoder's folder out. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines import paths
from engines.entry import Entry, common
from engines.errors import ModelError
from engines.modelrows import AdapterRow, Download, Family
from engines.places import absent, confined


class AdapterEntry(Entry, frozen=True, kw_only=True):
    """An IP-Adapter and the image encoder that it was trained with. `path` is its file; `file()` checks."""

    family: Family
    encoder_path: Path
    """The encoder's folder; `encoder()` checks."""
    encoder_id: str
    """The download that it belongs to; empty where the user has put it somewhere."""

    @property
    def here(self) -> bool:
        return self.path.is_file() and self._sees

    @property
    def _sees(self) -> bool:
        return (self.encoder_path / "config.json").is_file()

    def file(self) -> Path:
        """Its local file. Raises ModelError when it is not here, or leaves the folder it belongs in."""
        if not self.path.is_file():
            raise ModelError(absent(self.id, self.origin, self.path))
        return self.path.resolve() if self.origin == "added" else confined(self.path, paths.models())

    def encoder(self) -> Path:
        """Its encoder's local folder, on the same terms."""
        if not self._sees and self.encoder_id:
            raise ModelError(f"its image encoder is not here yet: run `livelatent models pull {self.id}`")
        if not self._sees:
            raise ModelError(f"its image encoder is not where it was ({self.encoder_path})")
        return confined(self.encoder_path, paths.models()) if self.encoder_id else self.encoder_path.resolve()


def entry(file: Path, name: str, row: AdapterRow, downloads: Mapping[str, Download]) -> AdapterEntry:
    """An `[ipadapters.ID]` table as an entry. Raises ModelError."""
    facts = common(f"{file}: ipadapters", name, row, downloads, row.encoder)
    main = downloads.get(row.download)
    return AdapterEntry(
        **facts,
        family=row.family,
        origin="pulled" if main else "added",
        path=main.folder() / row.file if main else Path(row.path),
        encoder_path=Path(row.encoder_path)
        if row.encoder_path
        else downloads[row.encoder].folder() / row.encoder_folder,
        encoder_id=row.encoder,
    )
