"""`frames.jsonl`: what each recorded picture was made with, one JSON object a line. docs/recording.md has the format.

A line says what is new since the one before; every KEY-th says everything, so that a file of hours can be entered
anywhere and a broken line costs no more than those up to the next.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bridge.errors import LiveLatentError, SinkError
from bridge.frame import Stamps
from pipelines.acting import Acting
from pipelines.params import Params
from pipelines.spec import StreamSpec

FORMAT = 1
KEY = 300
FILE = "frames.jsonl"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    recording: int = FORMAT
    """Version of this format."""
    livelatent: str
    began: str
    """Date and time, with the zone."""
    picture: str
    """`picture.mp4`, `picture.mkv`, or the folder `picture`; after a change of size goes on in `picture-2.mp4`."""
    input: str = ""
    """`input.mkv`, likewise; empty where the input was not kept."""
    made_with: dict[str, str] = {}
    """Packages that the bits of a picture may depend on, with their versions."""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One picture."""

    n: int
    """Of the picture in its files, from 0; for one that is unseen, of the next."""
    t: float
    """Seconds since the first picture."""
    seq: int
    """The source's number of the frame."""
    version: int
    """Of the parameters."""
    epoch: int
    """Another number, another worker painted it."""
    stamps: tuple[int, int, int, int]
    """Captured, fed, taken, done: nanoseconds of one clock."""
    media: int = -1
    """Position in the source's medium, nanoseconds; -1 where it is live."""
    hash: str = ""
    """Of the picture's bytes."""
    input: int | None = None
    """Number of the picture in the input's files, from 0; null where it was not kept."""
    shape: tuple[int, int, int] | None = None
    """The input's height, width and channels, where they are new."""
    input_hash: str = ""
    lost: int = 0
    """Pictures that went out since the line before and were not recorded."""
    unseen: bool = False
    """Painted, but overtaken by a newer one before it went out: it is in no file, and those after it build on it."""
    key: bool = False
    """Whether `set`, `acting` and `spec` say everything."""
    set: dict[str, Any] = {}
    """Parameters that are new, by row, as they were in this frame: ramps, cues and schedules evaluated."""
    acting: Acting | None = None
    """What of them took effect, if that is new."""
    spec: StreamSpec | None = None
    """The model that painted, its size and its engine, if that is new."""


class Entry(NamedTuple):
    """A line with all that it stands for."""

    line: Line
    params: Params
    acting: Acting
    spec: StreamSpec

    @property
    def stamps(self) -> Stamps:
        return Stamps(*self.line.stamps)


class LineWriter:
    """Each line is with the system when `add` returns: a process that is killed loses none."""

    def __init__(self, folder: Path, header: Header) -> None:
        """Raises SinkError."""
        self._path = folder / FILE
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as error:
            raise SinkError(f"{self._path} can't be written: {error.strerror}") from error
        self._count = 0
        self._values: dict[str, Any] = {}
        self._acting: Acting | None = None
        self._spec: StreamSpec | None = None
        self._write(header)

    def add(self, line: Line, params: Params, acting: Acting, spec: StreamSpec) -> None:
        """`line` comes without what it shall say about the other three. Raises SinkError."""
        if self._count % KEY == 0:
            self._values, self._acting, self._spec = {}, None, None
        values: dict[str, Any] = msgspec.to_builtins(params)
        del values["version"]
        before, self._values, self._count = self._values, values, self._count + 1
        self._write(
            msgspec.structs.replace(
                line,
                key=not before,
                set={name: value for name, value in values.items() if name not in before or before[name] != value},
                acting=acting if acting != self._acting else None,
                spec=spec if spec != self._spec else None,
            )
        )
        self._acting, self._spec = acting, spec

    def _write(self, line: Header | Line) -> None:
        data = memoryview(_encoder.encode(line) + b"\n")
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise SinkError(f"{self._path} can't be written: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._file)


class LineReader:
    """A file of lines, read from its beginning. LiveLatentError with a sentence for what is none of ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.broken = 0
        """Lines passed over, so far: those that can't be read, and those that build on them."""
        self.unknown: set[str] = set()
        """Parameters that this version does not know."""
        try:
            with path.open("rb") as file:
                first = file.readline(MAX_LINE)
        except OSError as error:
            raise LiveLatentError(f"{path} can't be read: {error.strerror}") from error
        try:
            self.header = _headers.decode(first)
        except msgspec.MsgspecError as error:
            raise LiveLatentError(f"{path} is not of a recording: {error}") from error
        if self.header.recording != FORMAT:
            raise LiveLatentError(f"{path} has format {self.header.recording}; this version reads {FORMAT}")

    def __iter__(self) -> Iterator[Entry]:
        values: dict[str, Any] = {}
        acting, spec = Acting(), StreamSpec()
        with self._path.open("rb") as file:
            file.readline(MAX_LINE)
            while text := file.readline(MAX_LINE):
                line = _line(text)
                if line is None or not (values or line.key):
                    values = {}
                    self.broken += 1
                    continue
                values = line.set if line.key else values | line.set
                acting, spec = line.acting or acting, line.spec or spec
                yield Entry(line, self._params(values, line.version), acting, spec)

    def _params(self, values: dict[str, Any], version: int) -> Params:
        unknown = values.keys() - set(Params.__struct_fields__)
        self.unknown |= unknown
        known = {name: value for name, value in values.items() if name not in unknown}
        try:
            return msgspec.convert({**known, "version": version}, Params)
        except msgspec.ValidationError as error:
            raise LiveLatentError(f"{self._path}: {error}") from error


MAX_LINE = 1 << 20
_encoder = msgspec.json.Encoder()
_headers = msgspec.json.Decoder(Header)
_lines = msgspec.json.Decoder(Line)


def _line(text: bytes) -> Line | None:
    """None for a line that was cut short or is none."""
    try:
        return _lines.decode(text)
    except msgspec.MsgspecError:
        return None
