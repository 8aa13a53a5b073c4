"""Where a registry's files may lie, and what to say when they are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from engines.errors import ModelError

Origin = Literal["shipped", "pulled", "added"]


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
