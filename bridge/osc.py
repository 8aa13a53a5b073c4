"""OSC 1.0 without I/O: bytes to frozen events and back.

No matter what bytes come in, `parse` returns a Message or a Bundle, or raises OscError; never anything else, and never
after more than a millisecond for a datagram of up to 64 KiB. Hence the caps below: what OSC 1.0 allows without limit
(nesting, elements, arguments, pattern matching) is what a hostile packet would spend our time with.

Strict on purpose: every size a multiple of four, padding of zeros and no longer than it must be, nothing after the last
argument, UTF-8 in strings, ASCII in addresses. Senders from before 2002 that leave the type tag string out are refused,
since their arguments can only be guessed. Time tags are read and not waited for: the network's jitter is smaller than
a frame, and a bundle dated tomorrow must not hold anything up. An address may hold pattern characters (`* ? [ ] { }`,
OSC 1.0 allows it), but nothing here or above matches patterns, so it is just an address that nobody has.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import msgspec

from bridge.oscargs import I32, READ, U64, WRITE, Arg, flat, refuse, shape, string, tag_of

MAX_PACKET = 65_536
MAX_DEPTH = 8
"""Bundles within bundles, and arrays within arrays."""
MAX_PARTS = 512
"""Bundle elements and arguments in a packet; messages of numbers alone, which are read in one go, count as one."""
MAX_NUMBERS = 4096
"""Arguments in one message of numbers alone (a channel's samples)."""
MAX_ADDRESS = 255
IMMEDIATELY: Final = 1
"""The time tag that means now."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """`tags` is the type tag string without its comma. i h t are int, f d float, s S c str, b bytes; [ ] are tuples."""

    address: str
    tags: str
    args: tuple[Arg, ...]


class Bundle(msgspec.Struct, frozen=True, gc=False):
    """What belongs together in time. `timetag`: NTP format, 32.32 fixed-point seconds since 1900."""

    timetag: int
    elements: tuple[Message | Bundle, ...]

    def messages(self) -> list[Message]:
        """All messages in it, those of inner bundles too, in their order."""
        out: list[Message] = []
        for element in self.elements:
            out += element.messages() if isinstance(element, Bundle) else (element,)
        return out


Packet: TypeAlias = Message | Bundle


def parse(data: bytes) -> Packet:
    """One datagram. Raises OscError, with what is wrong with it."""
    size = len(data)
    if size > MAX_PACKET:
        refuse(f"{size} bytes, more than {MAX_PACKET}")
    if size == 0 or size & 3:
        refuse(f"{size} bytes, not a multiple of four" if size else "an empty datagram")
    if data[0] == _SLASH:
        return _message(data, 0, size, None)
    return _packet(data, 0, size, 0, _Budget())


# How it is read. Positions are multiples of four throughout: every part starts and ends on one, or is refused.

_SLASH, _HASH = b"/#"
_BUNDLE = b"#bundle\0"
_ADDRESS = re.compile(rb"/[!-\"$-+\--~]*")  # printable ASCII without space, # and ,
_TAGS = re.compile(rb"[ifsbhdtTFNIcrmS\[\]]*")
_NUMBERS = {"i": "i", "f": "f", "h": "q", "d": "d", "t": "Q"}


class _Budget:
    """What is left of MAX_PARTS."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_PARTS

    def spend(self, parts: int) -> None:
        self.left -= parts
        if self.left < 0:
            refuse(f"more than {MAX_PARTS} bundle elements and arguments")


def _packet(data: bytes, start: int, end: int, depth: int, budget: _Budget) -> Packet:
    if data[start] == _SLASH:
        return _message(data, start, end, budget)
    if data[start] == _HASH:
        return _bundle(data, start, end, depth, budget)
    refuse("starts with neither / nor #bundle")


def _bundle(data: bytes, start: int, end: int, depth: int, budget: _Budget) -> Bundle:
    if depth == MAX_DEPTH:
        refuse(f"bundles nested deeper than {MAX_DEPTH}")
    if end - start < 16 or data[start : start + 8] != _BUNDLE:
        refuse("a bundle without its head")
    (timetag,) = U64.unpack_from(data, start + 8)
    at, elements = start + 16, []
    while at < end:
        (size,) = I32.unpack_from(data, at)
        at += 4
        if size <= 0 or size & 3 or size > end - at:
            refuse(f"a bundle element of {size} bytes")
        budget.spend(1)
        elements.append(_packet(data, at, at + size, depth + 1, budget))
        at += size
    return Bundle(timetag, tuple(elements))


def _message(data: bytes, start: int, end: int, budget: _Budget | None) -> Message:
    comma = data.find(b",", start, end)
    if comma < 0:
        refuse("no type tag string")
    stop = data.find(b"\0", comma, end)
    at = (stop + 4) & ~3
    if stop < 0 or at > end:
        refuse("a type tag string without an end")
    if at - start > MAX_ADDRESS + 4 + 4 + MAX_NUMBERS:
        refuse("an address or a type tag string that is too long")
    raw = data[start:at]
    head = _cached_head(raw) if at - start <= 128 else _head(raw)
    if budget is not None and head.parts:
        budget.spend(head.parts)
    if head.numbers is None:
        return Message(head.address, head.tags, _mixed(head.tags, data, at, end))
    if end - at != head.numbers.size:
        refuse(f"{end - at} bytes of arguments where {head.numbers.size} are due")
    return Message(head.address, head.tags, head.numbers.unpack_from(data, at))


class _Head(NamedTuple):
    address: str
    tags: str
    numbers: struct.Struct | None
    """Reads all arguments at once, where all are numbers."""
    parts: int
    """What its arguments cost of MAX_PARTS."""


def _head(raw: bytes) -> _Head:
    """Address and type tag string, with their padding."""
    comma = raw.index(b",")
    address, tags = raw[:comma].rstrip(b"\0"), raw[comma + 1 :].rstrip(b"\0")
    if comma & 3 or not 1 <= comma - len(address) <= 4:
        refuse("an address that is not padded to four bytes")
    if len(address) > MAX_ADDRESS:
        refuse(f"an address longer than {MAX_ADDRESS} bytes")
    if not _ADDRESS.fullmatch(address):
        refuse("an address with characters that OSC does not allow")
    if not _TAGS.fullmatch(tags):
        refuse("a type tag that OSC 1.0 does not have")
    return _plan(address.decode("ascii"), tags.decode("ascii"))


# A sender uses a handful of heads over and over; the largest that is kept is 128 bytes.
_cached_head = lru_cache(maxsize=1024)(_head)


def _layout(tags: str) -> struct.Struct:
    """Reads the arguments of those tags at once."""
    return struct.Struct(">" + "".join(map(_NUMBERS.__getitem__, tags)))


# Making one takes longer than reading with it, and a packet may hold 512 addresses that were never seen before.
_cached_layout = lru_cache(maxsize=256)(_layout)


def _plan(address: str, tags: str) -> _Head:
    if not tags.strip("ifhdt"):
        if len(tags) > MAX_NUMBERS:
            refuse(f"more than {MAX_NUMBERS} numbers in a message")
        layout = _cached_layout(tags) if len(tags) <= 128 else _layout(tags)
        return _Head(address, tags, layout, 0)
    if len(tags) > MAX_PARTS:
        refuse(f"more than {MAX_PARTS} arguments")
    depth = 0
    for tag in tags:
        depth += (tag == "[") - (tag == "]")
        if not 0 <= depth <= MAX_DEPTH:
            refuse("arrays that do not pair or are nested too deep")
    if depth:
        refuse("an array without an end")
    return _Head(address, tags, None, len(tags))


def _mixed(tags: str, data: bytes, at: int, end: int) -> tuple[Arg, ...]:
    out: list[Arg] = []
    outer: list[list[Arg]] = []
    for tag in tags:
        if tag == "[":
            outer.append(out)
            out = []
        elif tag == "]":
            array = tuple(out)
            out = outer.pop()
            out.append(array)
        else:
            value, at = READ[tag](data, at, end)
            out.append(value)
    if at != end:
        refuse(f"{end - at} bytes after the last argument")
    return tuple(out)


# The way out. Faults are ours here, not a remote's: ValueError.


_VALUE = re.compile(r"[^\[\]]")
_NO_BRACKETS = str.maketrans("", "", "[]")


def message(address: str, *args: Arg) -> Message:
    """A message with the tags that its values suggest: int i (h when it needs 64 bits), float f, str s, bytes b, …"""
    return Message(address, "".join(map(tag_of, args)), args)


def bundle(*elements: Packet, timetag: int = IMMEDIATELY) -> Bundle:
    return Bundle(timetag, elements)


def build(packet: Packet) -> bytes:
    """The datagram. ValueError where a value does not fit its tag, or the whole does not fit a datagram."""
    data = _build_bundle(packet) if isinstance(packet, Bundle) else _build_message(packet)
    if len(data) > MAX_PACKET:
        raise ValueError(f"{len(data)} bytes do not fit a datagram")
    return data


def _build_bundle(packet: Bundle) -> bytes:
    parts = [b"#bundle\0", packet.timetag.to_bytes(8, "big")]
    for element in packet.elements:
        data = build(element)
        parts += (len(data).to_bytes(4, "big"), data)
    return b"".join(parts)


def _build_message(packet: Message) -> bytes:
    if not packet.address.startswith("/") or not packet.address.isascii():
        raise ValueError(f"not an OSC address: {packet.address!r}")
    if shape(packet.args) != _VALUE.sub("x", packet.tags):
        raise ValueError(f"{packet.address}: the values do not pair with the tags {packet.tags!r}")
    tags = packet.tags.translate(_NO_BRACKETS)
    parts = [string(packet.address), string("," + packet.tags)]
    try:
        parts += [WRITE[tag](value) for tag, value in zip(tags, flat(packet.args), strict=True)]
    except (struct.error, OverflowError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{packet.address}: a value does not fit its tag in {packet.tags!r}") from error
    return b"".join(parts)
