"""The arguments of OSC 1.0, one type tag at a time: how each is read from bytes and written to them.

Readers take (data, position, end of the message) and return the value and the position after it. Positions are
multiples of four. All they raise is OscError. Writers raise whatever a wrong value makes them raise; `bridge.osc.build`
turns that into ValueError.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple, NoReturn, TypeAlias

from bridge.errors import OscError


def refuse(why: str) -> NoReturn:
    raise OscError(f"not OSC: {why}")


class Impulse(enum.Enum):
    """The argument of type I, which is only there or not."""

    BANG = "I"


class Rgba(NamedTuple):
    """A colour, 0 to 255 each (type r)."""

    red: int
    green: int
    blue: int
    alpha: int


class Midi(NamedTuple):
    """A MIDI message (type m)."""

    port: int
    status: int
    data1: int
    data2: int


Arg: TypeAlias = "bool | int | float | str | bytes | Impulse | Rgba | Midi | tuple[Arg, ...] | None"

I32, U64 = struct.Struct(">i"), struct.Struct(">Q")
_F32, _F64, _I64 = struct.Struct(">f"), struct.Struct(">d"), struct.Struct(">q")


_Reader: TypeAlias = Callable[[bytes, int, int], tuple[Arg, int]]


def _number(form: struct.Struct) -> _Reader:
    def read(data: bytes, at: int, end: int) -> tuple[Arg, int]:
        after = at + form.size
        if after > end:
            refuse("ends within an argument")
        return form.unpack_from(data, at)[0], after

    return read


def _constant(value: Arg) -> _Reader:
    return lambda data, at, end: (value, at)


def _string(data: bytes, at: int, end: int) -> tuple[str, int]:
    stop = data.find(b"\0", at, end)
    after = (stop + 4) & ~3
    if stop < 0 or after > end:
        refuse("a string without an end")
    if data.count(0, stop, after) != after - stop:
        refuse("padding that is not zero")
    try:
        return data[at:stop].decode(), after
    except UnicodeDecodeError:
        refuse("a string that is not UTF-8")


def _blob(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    if at + 4 > end:
        refuse("ends within an argument")
    (size,) = I32.unpack_from(data, at)
    start = at + 4
    after = start + ((size + 3) & ~3)
    if size < 0 or after > end:
        refuse(f"a blob of {size} bytes")
    if data.count(0, start + size, after) != after - start - size:
        refuse("padding that is not zero")
    return data[start : start + size], after


def _four(data: bytes, at: int, end: int) -> bytes:
    if at + 4 > end:
        refuse("ends within an argument")
    return data[at : at + 4]


def _rgba(data: bytes, at: int, end: int) -> tuple[Rgba, int]:
    return Rgba(*_four(data, at, end)), at + 4


def _midi(data: bytes, at: int, end: int) -> tuple[Midi, int]:
    return Midi(*_four(data, at, end)), at + 4


def _char(data: bytes, at: int, end: int) -> tuple[str, int]:
    code = int.from_bytes(_four(data, at, end), "big")
    if code > 127:
        refuse("a character that is not ASCII")
    return chr(code), at + 4


READ: dict[str, _Reader] = {
    "i": _number(I32),
    "f": _number(_F32),
    "h": _number(_I64),
    "d": _number(_F64),
    "t": _number(U64),
    "s": _string,
    "S": _string,
    "b": _blob,
    "c": _char,
    "r": _rgba,
    "m": _midi,
    "T": _constant(True),
    "F": _constant(False),
    "N": _constant(None),
    "I": _constant(Impulse.BANG),
}


def flat(args: tuple[Arg, ...]) -> Iterator[Arg]:
    for arg in args:
        if type(arg) is tuple:  # an array; Rgba and Midi are tuples too, and values
            yield from flat(arg)
        else:
            yield arg


def shape(args: tuple[Arg, ...]) -> str:
    """`x` for each value, brackets around those of an array: as a type tag string has it."""
    return "".join(f"[{shape(arg)}]" if type(arg) is tuple else "x" for arg in args)


def tag_of(value: Arg) -> str:
    match value:
        case bool():
            return "T" if value else "F"
        case int():
            return "i" if -(2**31) <= value < 2**31 else "h"
        case float():
            return "f"
        case str():
            return "s"
        case bytes():
            return "b"
        case None:
            return "N"
        case Impulse():
            return "I"
        case Rgba():
            return "r"
        case Midi():
            return "m"
        case tuple():
            return "[" + "".join(map(tag_of, value)) + "]"
    raise ValueError(f"OSC has no type for {type(value).__name__}")


def string(text: str) -> bytes:
    data = text.encode()
    if b"\0" in data:
        raise ValueError("an OSC string can't hold a zero byte")
    return data + bytes(4 - len(data) % 4)


def _write_blob(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value + bytes(-len(value) % 4)


def _write_nothing(only: Arg) -> Callable[[Arg], bytes]:
    def write(value: Arg) -> bytes:
        if value is not only:
            raise TypeError
        return b""

    return write


WRITE: dict[str, Callable[..., bytes]] = {
    "i": struct.Struct(">i").pack,
    "f": struct.Struct(">f").pack,
    "h": struct.Struct(">q").pack,
    "d": struct.Struct(">d").pack,
    "t": struct.Struct(">Q").pack,
    "s": string,
    "S": string,
    "b": _write_blob,
    "c": lambda value: ord(value).to_bytes(4, "big"),
    "r": lambda value: bytes(Rgba(*value)),
    "m": lambda value: bytes(Midi(*value)),
    "T": _write_nothing(True),
    "F": _write_nothing(False),
    "N": _write_nothing(None),
    "I": _write_nothing(Impulse.BANG),
}


@lru_cache(maxsize=4096)
def as_typed(value: float) -> float:
    """The shortest decimal that is this 32-bit float: 0.7, where the wire made it 0.699999988079071. What is none
    stays as it is."""
    if not abs(value) < 3e38:
        return value
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _F32.unpack(_F32.pack(short))[0] == value:
            return short
    return value
