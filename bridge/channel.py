"""What bridge and worker say to each other: typed msgpack messages, length first, over the worker's stdin and stdout.

Pipes rather than a socket: no port, no name that a stranger could connect to, the same on Windows, and when either side
dies the other reads end-of-file at once. Pixels never come this way; they lie in the rings, and `Fed` and `Painted` are
the bells that say so.
"""

from __future__ import annotations

import os
import struct
import threading
from typing import IO

import msgspec

from bridge.errors import WorkerError
from pipelines.params import Params
from pipelines.spec import StreamSpec

MAX_MESSAGE = 64 * 1024
_LENGTH = struct.Struct("<I")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages; the wire carries the class name in `type`."""


class Load(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Bridge: build this, and keep it warm."""

    spec: StreamSpec
    params: Params
    ring_in: str
    ring_out: str
    background: bool
    """Something else is painting meanwhile: load with low priority."""
    ring_hint: str = ""
    """Where hints go that somebody wants to look at."""
    rings_own: dict[int, str] = {}
    """Control unit → the ring with the pictures of its own stream."""


class Activate(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Bridge: you paint from now on."""

    epoch: int


class Fed(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Bridge: there is a new frame in ring A."""


class Quit(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Bridge: finish the frame in hand and exit."""


class Ready(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Worker: built and warmed up."""

    load_s: float
    frame_ms: float
    """How long one warmed-up frame took: the yardstick for a stall."""


class Refused(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Worker: can't build that, and no retry would help."""

    reason: str


class Painted(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Worker: there is a new picture in ring B."""

    seq: int
    frame_ms: float
    fed: int = 0
    """When its frame was fed, in `clock.now_ns`: which picture this is about, if ring B holds a newer one by now."""
    took: bytes = b""
    """What took effect in it: `pipelines.acting.Acting` as msgpack."""


class Hinted(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Worker: there is a new hint in its ring, of the picture that came before."""

    seq: int


class Skipped(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Worker: this frame could not be painted, the next may."""

    seq: int
    reason: str


class Beat(Message, frozen=True, forbid_unknown_fields=True, tag=True):
    """Worker, ten times a second: still here."""

    busy_ms: float
    """For how long it has been on the frame in hand; 0 between frames."""
    notes: dict[str, float | str] = {}


ToWorker = Load | Activate | Fed | Quit
ToBridge = Ready | Refused | Painted | Hinted | Skipped | Beat

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_to_bridge = msgspec.msgpack.Decoder(ToBridge)


class Sender:
    """Writes messages to a pipe; whole or not at all, from any thread."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._fd = pipe.fileno()
        self._lock = threading.Lock()

    def send(self, message: ToWorker | ToBridge) -> None:
        """Raises WorkerError when the other side is gone."""
        body = _encoder.encode(message)
        if len(body) > MAX_MESSAGE:
            raise WorkerError(f"a {type(message).__name__} message of {len(body)} bytes is over the cap")
        data = memoryview(_LENGTH.pack(len(body)) + body)
        try:
            with self._lock:
                while data:
                    data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise WorkerError("the other side of the pipe is gone") from error


class Receiver:
    """Reads messages from a pipe, one thread alone."""

    def __init__(self, pipe: IO[bytes], decoder: msgspec.msgpack.Decoder[ToWorker] | msgspec.msgpack.Decoder[ToBridge]):
        self._pipe = pipe
        self._decoder = decoder

    def receive(self) -> ToWorker | ToBridge | None:
        """Blocks for the next message; None at end-of-file. Raises WorkerError on bytes that are no message."""
        head = self._pipe.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack(head)
        if size > MAX_MESSAGE:
            raise WorkerError(f"a message of {size} bytes is over the cap")
        body = self._pipe.read(size)
        if len(body) < size:
            return None
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise WorkerError(f"not a message: {error}") from error


def from_bridge(pipe: IO[bytes]) -> Receiver:
    """The worker's ear."""
    return Receiver(pipe, _to_worker)


def from_worker(pipe: IO[bytes]) -> Receiver:
    """The bridge's ear."""
    return Receiver(pipe, _to_bridge)
