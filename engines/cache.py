"""What engines have compiled, on disk: each file is sealed with this user's own key, and read only if the seal holds.

A compiled network is code, or near it. Files are made here alone (`LIVELATENT_HOME/engines`), written beside their
place and renamed, so that what is there is whole; the seal is an HMAC over name, notes and content.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import mmap
import os
import secrets
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engines import paths

MAGIC = b"LLEC\x01"
SEAL = hashlib.sha256().digest_size
KEY_BYTES = 32
MAX_NOTES = 1 << 20
ALIGNED = 4096
"""Content begins at a multiple of this, as memory that is mapped wants."""
MOST_BYTES = 12 << 30
"""All files together; those that were used longest ago go first."""
WHOLE_BYTES = 64 << 20
"""Weights up to this size are known by their content, larger ones by size and time."""
_HEAD = struct.Struct(f"<{len(MAGIC)}s{SEAL}sI")


class Entry(NamedTuple):
    """One file's content. The memory is a map of the file; what is written there stays in this process."""

    notes: dict[str, Any]
    content: memoryview


class EngineCache:
    """The folder of one engine's files. Several processes may use it at once."""

    def __init__(self, engine: str) -> None:
        self.folder = paths.home() / "engines" / engine

    def get(self, name: str, apart: bool = False) -> Entry | None:
        """What was put there; None where nothing is, or where the seal does not hold. `apart`: read into memory of this
        process before the seal is checked, so that nobody can write there afterwards; for code that is run."""
        path = self._path(name)
        try:
            with path.open("rb") as file, contextlib.suppress(ValueError):
                whole = memoryview(file.read() if apart else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
                os.utime(path)
                return self._open(name, whole)
        except OSError:
            pass
        return None

    def has(self, name: str) -> bool:
        """Whether a file is there, its seal aside."""
        return self._path(name).is_file()

    def put(self, name: str, notes: Mapping[str, Any], content: bytes | memoryview) -> None:
        """Keep `content` and `notes` (what JSON can hold). Raises OSError where that can't be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told = msgspec.json.encode(notes)
        told += b" " * (-(_HEAD.size + len(told)) % ALIGNED)
        draft = self.folder / f".{name}.{os.getpid()}"
        try:
            with draft.open("wb") as file:
                file.write(_HEAD.pack(MAGIC, self._seal(name, told, content), len(told)))
                file.write(told)
                file.write(content)
            draft.replace(self._path(name))
        finally:
            draft.unlink(missing_ok=True)
        self._trim()

    def drop(self, name: str) -> None:
        """Forget it."""
        self._path(name).unlink(missing_ok=True)

    def _open(self, name: str, whole: memoryview) -> Entry | None:
        try:
            magic, seal, length = _HEAD.unpack_from(whole)
        except struct.error:
            return None
        told, content = whole[_HEAD.size :][: min(length, MAX_NOTES)], whole[_HEAD.size + length :]
        if magic != MAGIC or len(told) != length or not hmac.compare_digest(seal, self._seal(name, told, content)):
            return None
        return Entry(msgspec.json.decode(told, type=dict[str, Any]), content)

    def _seal(self, name: str, notes: bytes | memoryview, content: bytes | memoryview) -> bytes:
        seal = hmac.new(_key(), f"{name}\0{len(notes)}\0".encode(), hashlib.sha256)
        seal.update(notes)
        seal.update(content)
        return seal.digest()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.sealed"

    def _trim(self) -> None:
        found = []
        for path in self.folder.glob("*.sealed"):
            with contextlib.suppress(OSError):  # another process may be quicker
                found.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        room = MOST_BYTES
        for _, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0:
                with contextlib.suppress(OSError):
                    path.unlink()


def name_of(*facts: object) -> str:
    """A name for what was made from `facts`, which JSON can hold: the same facts, the same name."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]


def weights_of(folders: Iterable[Path]) -> list[list[object]]:
    """What tells the networks in these folders (or files) from others: names, sizes, and content or time."""
    found: list[list[object]] = []
    for folder in folders:
        files = [folder] if folder.is_file() else sorted(folder.glob("*"))
        for path in files:
            if path.suffix not in (".safetensors", ".json"):
                continue
            stat = path.stat()
            small = stat.st_size <= WHOLE_BYTES
            what = hashlib.sha256(path.read_bytes()).hexdigest() if small else stat.st_mtime_ns
            found.append([path.name, stat.st_size, what])
    return found


def _key() -> bytes:
    """This user's own, made once. Its file is written whole or not at all."""
    path = paths.home() / "engines" / "key"
    with contextlib.suppress(OSError):
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".key.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    try:
        os.link(draft, path)  # of two processes one wins, and both read what is there
    except FileExistsError:
        if len(path.read_bytes()) != KEY_BYTES:
            draft.replace(path)
    except OSError:  # a file system without links
        draft.replace(path)
    draft.unlink(missing_ok=True)
    return path.read_bytes()
