"""Where a registry's files lie or may lie, and what to say when they are not there. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from engines import modelfile, paths
from engines.errors import ModelError
from engines.modelrows import Download

Origin = Literal["shipped", "pulled", "added"]


def place(file: Path, name: str, folder: str, download: Download | None) -> tuple[Origin, Path]:
    """Where a table's files come from, and where they lie."""
    if download:
        return "pulled", download.folder()
    if file == modelfile.shipped_file() and folder:
        return "shipped", paths.ROOT / folder
    return "added", Path(folder) if folder else paths.models() / name


def settled(path: Path, origin: Origin) -> Path:
    """A folder that is there, with every link followed. Raises ModelError if it leaves the one that it belongs in."""
    if origin == "added" and path.parent != paths.models():
        return path.resolve()  # the user himself named this folder: it is its own root
    return confined(path, paths.ROOT if origin == "shipped" else paths.models())


def confined(path: Path, root: Path) -> Path:
    """`path` with every link followed. Raises ModelError if that is not below `root`."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name!a} leads nowhere") from error
    if not real.is_relative_to(root.resolve()):
        raise ModelError(f"{path.name!a} leads out of its folder")
    return real


def absent(name: str, origin: Origin, path: Path) -> str:
    """A sentence for files of `name` that are not at `path`."""
    if origin == "shipped":
        return f"{name}'s files are missing from {path}: install livelatent again"
    if origin == "pulled":
        return f"{name} is not here yet: run `livelatent models pull {name}`"
    return f"{name} is not where it was ({path}): bring it back, or add it again with `livelatent models add`"
