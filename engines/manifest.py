"""The hash of every file of a model, recorded when it arrives and verified by `livelatent models check`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from engines import paths
from engines.errors import ModelError
from engines.weights import list_files

NAME = "livelatent.json"
_CHUNK = 4 << 20
Progress = Callable[[int], None]
"""Told how many bytes more are done."""


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a folder held when it arrived, and where it came from."""

    source: str = ""
    revision: str = ""
    files: dict[str, FileRecord]


def place(model_id: str, folder: Path) -> Path:
    """Where a folder's manifest lies: in it where the folder is ours, else beside ours under the model's id."""
    ours = paths.models() / model_id
    return folder / NAME if folder.resolve() == ours.resolve() or _shipped(folder) else ours.with_suffix(".json")


def _shipped(folder: Path) -> bool:
    return folder.resolve().is_relative_to(paths.ROOT.resolve())


def sha256(path: Path, progress: Progress = lambda _: None) -> str:
    """Of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def record(folder: Path, source: str, revision: str, progress: Progress = lambda _: None) -> Manifest:
    """Hash every file of a folder that has passed its check."""
    files = {
        name: FileRecord(sha256(path, progress), path.stat().st_size)
        for name, path in list_files(folder).items()
        if name != NAME
    }
    return Manifest(source=source, revision=revision, files=files)


def write(path: Path, manifest: Manifest) -> None:
    """Atomically: a crash leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    os.replace(part, path)


def load(path: Path) -> Manifest | None:
    """None where none was recorded. Raises ModelError if it is broken."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{path} is broken: {error}") from error


def record_file(path: Path) -> Manifest:
    """The same for a single file that stays where it is."""
    return Manifest(source=str(path), files={path.name: FileRecord(sha256(path), path.stat().st_size)})


def verify(
    folder: Path, manifest: Manifest, pins: Mapping[str, str], progress: Progress = lambda _: None
) -> Iterator[str]:
    """A sentence for every file that is missing, has changed, or is not the one that models.toml pins. `folder` may be
    a single file."""
    files = {folder.name: folder} if folder.is_file() else list_files(folder)
    for name, known in manifest.files.items():
        path = files.get(name)
        if path is None:
            yield f"{name} is missing"
        elif path.stat().st_size != known.bytes:
            yield f"{name} has {path.stat().st_size} bytes, not the {known.bytes} it had when it came"
        elif sha256(path, progress) != known.sha256:
            yield f"{name} has changed since it came"
        elif known.sha256 != pins.get(name, known.sha256):
            yield f"{name} is not the file that models.toml pins"
    for name in sorted(files.keys() - manifest.files.keys() - {NAME}):
        if name.endswith((".safetensors", ".json")):
            yield f"{name} was not there when the model came"
