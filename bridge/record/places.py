"""Where recordings and stills go: folders and files of our own naming, never a path that somebody sent."""

from __future__ import annotations

import importlib.metadata
import platform
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Literal

from bridge.errors import SinkError
from engines import paths

Format = Literal["mp4", "mkv", "png"]
FORMATS: tuple[Format, ...] = ("mp4", "mkv", "png")
"""What a recording may be."""

MAX_LABEL = 40
MAX_SAME = 1000
"""So many of one name within a second, and something is wrong."""


def label(name: str) -> str:
    """What of a name may be part of a file's on any system: letters, digits, `_`, `-`; empty if nothing."""
    plain = unicodedata.normalize("NFC", name)
    kept = "".join(c if c.isalnum() or c in "_-" else "-" if c == " " else "_" for c in plain)
    return kept[:MAX_LABEL].strip("_-")


def under(configured: str, kind: str) -> Path:
    """The folder `recordings` or `stills`: in the one that the user configured, or in livelatent's own."""
    return (Path(configured).expanduser() if configured else paths.home()) / kind


def made_with() -> dict[str, str]:
    """Versions of what the bits of a picture depend on here. Imports none of it."""
    out = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in ("torch", "openvino"):
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def new_folder(parent: Path, name: str, now: datetime | None = None) -> Path:
    """An empty folder of today's date and time and this name. Raises SinkError."""
    _make(parent)
    for stem in _stems(name, now):
        path = parent / stem
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise SinkError(f"{path} can't be made: {error.strerror or error}") from error
        return path
    raise SinkError(f"there is no free name for {name or 'this'} in {parent}")


def new_file(parent: Path, name: str, suffix: str, data: bytes, now: datetime | None = None) -> Path:
    """`data` as a new file, named likewise. Raises SinkError."""
    _make(parent)
    for stem in _stems(name, now):
        path = parent / f"{stem}{suffix}"
        if write_new(path, data):
            return path
    raise SinkError(f"there is no free name for {name or 'this'} in {parent}")


def write_new(path: Path, data: bytes) -> bool:
    """Whether there was no such file yet, and now there is. Raises SinkError."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    except OSError as error:
        raise SinkError(f"{path} can't be written: {error.strerror or error}") from error
    return True


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder} can't be made: {error.strerror or error}") from error


def _stems(name: str, now: datetime | None) -> list[str]:
    stem = (now or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
    clean = label(name)
    stem = f"{stem}_{clean}" if clean else stem
    return [stem, *(f"{stem}_{number}" for number in range(2, MAX_SAME))]
