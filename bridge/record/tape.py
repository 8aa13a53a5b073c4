"""A recording on the disk, read again: each picture's line, with the input that it was made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bridge.errors import LiveLatentError, SourceError
from bridge.frame import Pixels
from bridge.record.lines import FILE, Entry, LineReader
from bridge.sources.clip import Clip


class Played(NamedTuple):
    entry: Entry
    input: Pixels | None
    """uint8 (h, w, 1 | 3 | 4); None where it was not kept, or its file ends before it."""


class Tape:
    """A recording's folder. LiveLatentError with a sentence for what is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / FILE).is_file():
            raise LiveLatentError(f"{folder} is no recording: there is no {FILE} in it")
        self.lines = LineReader(folder / FILE)
        self.header = self.lines.header

    def __iter__(self) -> Iterator[Played]:
        """In the order in which they were made."""
        inputs, channels = _Inputs(self.folder, self.header.input), 3
        for entry in self.lines:
            line = entry.line
            channels = line.shape[2] if line.shape is not None else channels
            pixels = inputs.at(line.input) if line.input is not None else None
            # A decoder knows no grey: it gives three equal channels.
            yield Played(entry, pixels[..., :1].copy() if pixels is not None and channels == 1 else pixels)


class _Inputs:
    """The input's pictures by number, forwards."""

    def __init__(self, folder: Path, name: str) -> None:
        self._pictures = _decoded(_parts(folder, name))
        self._number = -1
        self._last: Pixels | None = None

    def at(self, number: int) -> Pixels | None:
        while self._number < number:
            self._number, self._last = self._number + 1, next(self._pictures, None)
        return self._last if self._number == number else None


def _decoded(paths: list[Path]) -> Iterator[Pixels]:
    for path in paths:
        try:
            clip = Clip(path)
        except SourceError:
            return  # cut short before its first picture
        try:
            while (picture := clip.next()) is not None:
                yield clip.pixels(picture)
        finally:
            clip.close()


def _parts(folder: Path, name: str) -> list[Path]:
    """`input.mkv`, `input-2.mkv` … as far as they go. Only a plain name is believed."""
    if not re.fullmatch(r"[a-z]+\.mkv", name):
        return []
    path = folder / name
    rest = (path.with_stem(f"{path.stem}-{number}") for number in range(2, len(list(folder.iterdir())) + 2))
    out = []
    for part in (path, *rest):
        if not part.is_file():
            break
        out.append(part)
    return out
