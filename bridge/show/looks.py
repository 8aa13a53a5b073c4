"""Looks: named, partial sets of parameters and schedules. Ours are read; the user's are written, listed and deleted.

A remote names a look and never a file: the name is checked, and the file is in the looks folder of the user's own.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bridge.errors import ControlError
from bridge.load_config import looks, near, parts, read_file
from bridge.store import Value
from engines import paths
from engines.tomltext import quoted
from pipelines.params import table

MAX_SAVED = 500
NOT_SAVED = frozenset({"colour_capture"})
"""Besides the group `show`: what triggers once, and is no state."""
PICTURE = ".jpg"
MAX_PICTURE_BYTES = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _-]{0,38}[A-Za-z0-9_-])?", re.ASCII)
_RESERVED = re.compile(r"(?i)con|prn|aux|nul|com\d|lpt\d")
"""Names that Windows keeps for devices."""


class Look(NamedTuple):
    name: str
    values: Mapping[str, Value]
    schedules: Mapping[str, str]


def safe_name(name: object, what: str = "a look") -> str:
    """The name, if a file may be called so on any system. Raises ControlError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise ControlError(f"{what}'s name is up to 40 letters, digits, spaces, _ and -")
    return name


class Card(NamedTuple):
    """A look as people choose it."""

    name: str
    own: bool
    picture: int
    """When its picture was taken, in milliseconds; 0 if it has none."""


class Library:
    """All looks. Not thread-safe: its owner's lock guards it, except for `cards` and `picture`, which keep nothing."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, int], Look]] = {}
        self.revision = 0
        """Counts what was saved and deleted here."""

    def names(self) -> list[str]:
        return sorted(looks())

    def get(self, name: object) -> Look:
        """Read again only if the file has changed. Raises ControlError, ConfigError for a file that is wrong."""
        name = safe_name(name)
        # Two questions to the file system and no listing of folders: a cue asks this on the way of a frame.
        for folder in (paths.home(), paths.data("configs")):
            path = folder / "looks" / f"{name}.toml"
            try:
                stat = path.stat()
                break
            except OSError:
                continue
        else:
            raise ControlError(f"there is no look {name!r}{near(name, looks())}")
        stamp = stat.st_mtime_ns, stat.st_size
        kept = self._read.get(path)
        if kept is None or kept[0] != stamp:
            kept = self._read[path] = stamp, Look(name, *parts(read_file(str(path))))
        return kept[1]

    def cards(self) -> list[Card]:
        """Every look, the user's own first."""
        own = paths.home() / "looks"
        cards = [Card(name, path.parent == own, _taken(path)) for name, path in looks().items()]
        return sorted(cards, key=lambda card: (not card.own, card.name.casefold()))

    def picture(self, name: object) -> bytes | None:
        """The JPEG beside the look, if there is one. Raises ControlError for what is no name."""
        path = looks().get(safe_name(name))
        try:
            with (path or Path()).with_suffix(PICTURE).open("rb") as file:
                jpeg = file.read(MAX_PICTURE_BYTES + 1)
        except (OSError, ValueError):
            return None
        return jpeg if jpeg.startswith(b"\xff\xd8\xff") and len(jpeg) <= MAX_PICTURE_BYTES else None

    def save(self, look: Look, picture: bytes | None = None) -> Path:
        """Write it into the user's folder, over one of that name, its picture beside it. Raises ControlError."""
        path = paths.home() / "looks" / f"{safe_name(look.name)}.toml"
        make_room(path, "looks")
        write(path, as_toml(look))
        self.revision += 1
        _write_picture(path.with_suffix(PICTURE), picture)
        return path

    def delete(self, name: object) -> None:
        """Raises ControlError for one that is not the user's own."""
        path = paths.home() / "looks" / f"{safe_name(name)}.toml"
        try:
            path.unlink()
            self.revision += 1
            path.with_suffix(PICTURE).unlink(missing_ok=True)
        except FileNotFoundError:
            why = "is one of ours and stays" if str(name) in looks() else "is not there"
            raise ControlError(f"the look {name!r} {why}") from None
        except OSError as error:
            raise ControlError(f"the look {name!r} can't be deleted: {error.strerror}") from error


def _taken(look: Path) -> int:
    try:
        return look.with_suffix(PICTURE).stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0


def _write_picture(path: Path, picture: bytes | None) -> None:
    """A look without a picture is better than none, so a full disk is no reason to refuse."""
    with contextlib.suppress(OSError):
        if picture is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(picture)


def saved_rows() -> list[str]:
    """Rows that a saved look has: all that make the picture."""
    return [name for name, row in table().items() if row.group != "show" and name not in NOT_SAVED]


def as_toml(look: Look) -> str:
    lines, branch = ["[params]"], ""
    for name, value in sorted(look.values.items(), key=lambda item: _order(item[0])):
        head, _, key = table()[name].address.replace("/", ".").rpartition(".")
        if head != branch:
            branch = head
            lines += ["", f"[{head}]"]
        lines.append(f"{key} = {_literal(value)}")
    if look.schedules:
        lines += ["", "[schedule]", *(f"{name} = {_literal(text)}" for name, text in look.schedules.items())]
    return "\n".join(lines) + "\n"


def make_room(path: Path, what: str) -> None:
    """Raises ControlError when there are as many files beside this new one as a stranger may make."""
    if not path.exists() and path.parent.is_dir() and sum(1 for _ in path.parent.glob("*.toml")) >= MAX_SAVED:
        raise ControlError(f"there are {MAX_SAVED} saved {what}: delete some")


def write(path: Path, text: str) -> None:
    """Whole or not at all. Raises ControlError."""
    fresh = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, "utf-8")
        os.replace(fresh, path)
    except OSError as error:
        raise ControlError(f"{path} can't be written: {error.strerror or error}") from error


def _order(name: str) -> tuple[str, int]:
    """Rows of [params] first, then table by table, each in the order of the table."""
    return table()[name].address.rpartition("/")[0], list(table()).index(name)


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    return repr(value)
