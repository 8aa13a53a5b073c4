"""What the registry knows of anything that has an id, of whichever kind. No torch here: the bridge imports this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engines.errors import ModelError
from engines.modelrows import Download
from engines.places import Origin


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A network, or a model, and where it is from."""

    id: str
    title: str
    origin: Origin
    path: Path
    """Its folder or file, whether or not it is there yet."""
    source: str
    """Repository, or where it was added from or is to be had; empty for what ships or was added without saying."""
    licence: str
    size_mb: int
    """What `models pull` fetches, in 10^6 bytes; 0 for what ships or was added."""
    downloads: tuple[Download, ...]
    """All that `models pull` fetches for it: its own first."""


class Said(Protocol):
    """What a row of any kind says of it."""

    @property
    def title(self) -> str: ...

    @property
    def licence(self) -> str: ...

    @property
    def download(self) -> str: ...


def common(
    where: str, name: str, row: Said, downloads: Mapping[str, Download], *also: str, source: str = ""
) -> dict[str, Any]:
    """Fields of the entry `name`, all but origin and path. `where`: file and kind of table, for a sentence; `also`: ids
    of downloads that it needs besides its own; `source`: where it is from if nothing is downloaded. Raises ModelError
    for a download that is not there."""
    needed = tuple(dict.fromkeys(filter(None, (row.download, *also))))
    for need in needed:
        if need not in downloads:
            raise ModelError(f"{where}.{name}: there is no [downloads.{need}]")
    main = downloads.get(row.download)
    fetched = tuple(downloads[need] for need in needed)
    return {
        "id": name,
        "title": row.title or name,
        "source": main.repo if main else source,
        "licence": row.licence or (main.licence if main else "not stated"),
        "size_mb": sum(download.size_mb for download in fetched),
        "downloads": fetched,
    }
