"""Finished frames over ZMQ: `zmq[:ADDRESS][?codec=raw|jpeg&quality=85&bind=1&curve=0&server=NAME]`.

A PUB socket: any number of receivers, each gets the newest frame when it is ready for one, and none can hold us up.
"""

from __future__ import annotations

from typing import get_args

import zmq

from bridge.context import Context
from bridge.drivers import DriverSpec, flag
from bridge.errors import SinkError, WireError
from bridge.frame import Frame
from bridge.keys import key_name
from bridge.link import Endpoint, Link
from bridge.pacing import Pace
from bridge.wire import Codec, encode

DEFAULT_ADDRESS = "tcp://127.0.0.1:5572"


def codec(text: str) -> Codec:
    for known in get_args(Codec):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"expected one of {', '.join(get_args(Codec))}")


def quality(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise ValueError("expected 1 to 100")
    return value


class ZmqSink:
    """Publishes the messages of docs/wire.md."""

    def __init__(self, endpoint: Endpoint, codec: Codec = "raw", quality: int = 85) -> None:
        self.pace = Pace()
        self._endpoint = endpoint
        self._codec = codec
        self._quality = quality
        self._link = Link(zmq.PUB, endpoint, SinkError)
        self._last: tuple[Frame, memoryview] | None = None

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> ZmqSink:
        options = spec.take(codec=codec, quality=quality, bind=flag, curve=flag, server=key_name)
        coding = {key: options.pop(key) for key in ("codec", "quality") if key in options}
        return cls(Endpoint.of(spec.target or DEFAULT_ADDRESS, context.config.lan, **options), **coding)

    def open(self) -> None:
        self._link.open()

    def write(self, frame: Frame) -> None:
        # A held frame comes again and again: it is encoded once.
        if self._last is None or self._last[0] is not frame:
            try:
                self._last = frame, encode(frame, self._codec, self._quality)
            except WireError as error:
                raise SinkError(f"{self._endpoint.address}: {error}") from error
        self._link.send(self._last[1])

    def close(self) -> None:
        self._link.close()
        self._last = None

    def describe(self) -> str:
        return f"ZMQ {self._endpoint.address}, {self._codec}, {self._link.peers}"
