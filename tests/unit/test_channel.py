"""Messages between bridge and worker over real pipes: whole, capped, typed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO

import msgspec
import pytest

from bridge.channel import Activate, Beat, Fed, Load, Painted, Quit, Ready, Sender, from_bridge, from_worker
from bridge.errors import WorkerError
from pipelines.params import Params
from pipelines.spec import StreamSpec

Ends = tuple[IO[bytes], IO[bytes]]


@pytest.fixture
def pipe() -> Iterator[Ends]:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", buffering=0) as writer:
        yield reader, writer


def test_every_message_arrives_as_it_was(pipe: Ends) -> None:
    reader, writer = pipe
    load = Load(
        spec=StreamSpec(engine="fake", fake={"ms": 3.0}),
        params=Params(version=7, prompt="tinte ✒"),
        ring_in="a",
        ring_out="b",
        background=True,
    )
    down = (load, Activate(epoch=3), Fed(), Quit())
    for message in down:
        Sender(writer).send(message)
    ear = from_bridge(reader)
    assert tuple(ear.receive() for _ in down) == down
    up = (
        Ready(load_s=1.5, frame_ms=20.0),
        Painted(seq=9, frame_ms=2.0),
        Beat(busy_ms=0.0, notes={"prompt.tokens": 4.0}),
    )
    for report in up:
        Sender(writer).send(report)
    ear = from_worker(reader)
    assert tuple(ear.receive() for _ in up) == up


def test_the_end_of_the_other_side_is_none(pipe: Ends) -> None:
    reader, writer = pipe
    os.write(writer.fileno(), struct.pack("<I", 100) + b"half")
    writer.close()
    assert from_worker(reader).receive() is None


@pytest.mark.parametrize(
    "junk",
    [
        struct.pack("<I", 2**31) + b"x" * 10,
        struct.pack("<I", 3) + b"abc",
        struct.pack("<I", 1) + b"\xc1",
        struct.pack("<I", 11) + msgspec.msgpack.encode({"type": "Nope"}),
    ],
)
def test_what_is_no_message_is_our_error(pipe: Ends, junk: bytes) -> None:
    reader, writer = pipe
    os.write(writer.fileno(), junk)
    with pytest.raises(WorkerError):
        from_worker(reader).receive()


def test_a_dead_reader_is_our_error(pipe: Ends) -> None:
    reader, writer = pipe
    reader.close()
    with pytest.raises(WorkerError, match="gone"):
        Sender(writer).send(Fed())


def test_nothing_over_the_cap_is_sent(pipe: Ends) -> None:
    _, writer = pipe
    with pytest.raises(WorkerError, match="cap"):
        Sender(writer).send(Beat(busy_ms=0, notes={"x": "y" * 70_000}))
