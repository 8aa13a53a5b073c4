"""What page and bridge say to each other over `/ws`: JSON texts both ways, pictures as binary to the page.

A binary message is `HEADER` and a JPEG. Everything from a page is decoded into these types or refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from bridge.errors import ControlError
from bridge.show.wiring import Wiring

Shelf = Literal["input", "output", "hint"]
SHELVES: tuple[Shelf, ...] = ("input", "output", "hint")
Value = bool | int | float | str

PROTOCOL = 1
MAX_MESSAGE_BYTES = 16 * 1024
"""A prompt of 2 kB fits even if every byte of it is escaped."""
HEADER = struct.Struct("<BBHIIIdd")
"""Shelf (0 input, 1 output, 2 hint), protocol, header's bytes, number, seq, version, captured and encoded (s)."""


class Set(msgspec.Struct, tag_field="type", tag="set", frozen=True, forbid_unknown_fields=True):
    """Move parameters, at once or over `seconds`: all of them in one frame or, if any is refused, none."""

    values: dict[str, Value]
    seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0


class Watch(msgspec.Struct, tag_field="type", tag="watch", frozen=True, forbid_unknown_fields=True):
    """Which pictures this page wants; none while its window is hidden."""

    shelves: tuple[Shelf, ...]


class Ack(msgspec.Struct, tag_field="type", tag="ack", frozen=True, forbid_unknown_fields=True):
    """The picture of this number, and those before it, are painted."""

    shelf: Shelf
    number: int


class Command(msgspec.Struct, tag_field="type", tag="command", frozen=True, forbid_unknown_fields=True):
    """Do one of the things that the hello names."""

    name: str


class Say(msgspec.Struct, tag_field="type", tag="say", frozen=True, forbid_unknown_fields=True):
    """Do what this OSC address does, with these arguments: a look, a cue, a schedule (bridge/show/acts.py)."""

    address: Annotated[str, msgspec.Meta(max_length=128)]
    """Without the prefix: `look/recall`."""
    args: Annotated[tuple[Value, ...], msgspec.Meta(max_length=8)] = ()


FromPage = Set | Watch | Ack | Command | Say


class Choice(msgspec.Struct, frozen=True):
    id: str
    title: str


class Row(msgspec.Struct, frozen=True):
    """One parameter, as the page draws it."""

    name: str
    address: str
    """For OSC, without the prefix."""
    group: str
    type: Literal["bool", "int", "float", "text", "choice"]
    kind: str
    default: Value
    doc: str
    low: float | None
    high: float | None
    step: float
    unit: str
    curve: str
    ramps: bool
    choices: tuple[Choice, ...]


class Figure(msgspec.Struct, frozen=True):
    """One row of bridge/telemetry.py, as the page labels it."""

    address: str
    unit: str
    doc: str


class LookCard(msgspec.Struct, frozen=True):
    """A look; its picture is at `/look.jpg?name=<name>&at=<picture>`."""

    name: str
    own: bool
    picture: int
    """When it was taken, in milliseconds; 0 if there is none."""


class Offer(msgspec.Struct, tag_field="type", tag="offer", frozen=True):
    """What can be recalled and put on."""

    looks: tuple[LookCard, ...]
    shows: tuple[str, ...]


class CueCard(msgspec.Struct, frozen=True):
    """A cue, as bridge/show/cues.py has it; a nameless one is called by its look."""

    name: str
    look: str
    move: float | str
    curve: str
    wait: float | str
    next: str
    times: int
    quantise: str
    own: tuple[str, ...]
    """The parameters and schedules that it sets over its look."""


class Cues(msgspec.Struct, tag_field="type", tag="cues", frozen=True):
    """The cue list that is on, and how it stands; the time until the next cue is among the readings."""

    show: str = ""
    title: str = ""
    loop: bool = False
    cues: tuple[CueCard, ...] = ()
    on: int = -1
    then: int = -1
    asked: int = -1
    """Fired by a hand, and waiting for its beat."""
    held: bool = False


class Midi(msgspec.Struct, tag_field="type", tag="midi", frozen=True):
    """Which controller does what, and what is being learnt. Told only where MIDI is on."""

    wiring: Wiring


class Entry(msgspec.Struct, frozen=True):
    """One line of the log. An entry that comes again, by its number, has changed."""

    number: int
    at: float
    """Seconds since 1970."""
    kind: str
    """error, warning, look, cue, move or note."""
    text: str
    who: str


class Log(msgspec.Struct, tag_field="type", tag="log", frozen=True):
    entries: tuple[Entry, ...]


class Detail(msgspec.Struct, tag_field="type", tag="detail", frozen=True):
    """What the meters show beyond the readings (bridge/web/figures.py)."""

    stages: dict[str, tuple[float, float]]
    """Median and 99 % of each part of a frame's way, in milliseconds and in its order."""
    edges: tuple[float, ...]
    latencies: tuple[int, ...]
    """Histogram of the last frames: how many up to each edge."""
    memory: tuple[float, float]
    """Of the graphics card, in GiB: what the worker holds, and all there is; zeros where there is none."""
    lost: dict[str, int]
    """Counters that are not zero of what was dropped, refused or mended."""


class Hello(msgspec.Struct, tag_field="type", tag="hello", frozen=True):
    """First message of a connection: everything that the page draws itself from."""

    protocol: int
    version: str
    table: tuple[Row, ...]
    figures: tuple[Figure, ...]
    values: dict[str, Value]
    commands: tuple[str, ...]
    you: str
    """This page's name in the log."""


class Change(msgspec.Struct, tag_field="type", tag="change", frozen=True):
    """Somebody moved these parameters (this page, another one, OSC)."""

    values: dict[str, Value]
    seconds: dict[str, float]
    """How long it takes them to get there, for those that do not jump."""
    by: str = ""
    """Who moved them: a page's name, `OSC <address>`; empty for a look, a cue, the bridge itself."""


class Stats(msgspec.Struct, tag_field="type", tag="stats", frozen=True):
    """How the run goes: the value of each reading, and the worker's notes on the prompt, by address."""

    readings: dict[str, float | str]


class Problem(msgspec.Struct, tag_field="type", tag="problem", frozen=True):
    """What the page asked for was refused; `name` is the parameter, if it was about one."""

    text: str
    name: str = ""


class Said(msgspec.Struct, tag_field="type", tag="said", frozen=True):
    """The answer to a Say that has one."""

    address: str
    args: tuple[str | float, ...]


ToPage = Hello | Change | Stats | Detail | Offer | Cues | Midi | Log | Problem | Said


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded picture; `number` counts up per shelf."""

    shelf: Shelf
    number: int
    data: bytes


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(FromPage)


def encode(message: ToPage) -> str:
    return _encoder.encode(message).decode()


def decode(text: str | bytes) -> FromPage:
    """Raises ControlError with a sentence for anything that is not one of our messages."""
    if len(text) > MAX_MESSAGE_BYTES:
        raise ControlError(f"a message takes at most {MAX_MESSAGE_BYTES} bytes")
    try:
        message: FromPage = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ControlError(f"that is not a message we know: {error}") from None
    return message
