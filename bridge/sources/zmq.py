"""Frames over ZMQ: `zmq[:ADDRESS][?bind=1&curve=0&server=NAME]`.

A SUB socket that binds, so that senders come and go and only one address is known; `bind=0` connects to a PUB instead.
Each message says itself what it is (docs/wire.md), so size, format and codec may change at any frame.
"""

from __future__ import annotations

import time

import zmq

from bridge.clock import NS, from_seconds, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec, flag
from bridge.errors import SourceError, WireError
from bridge.frame import Frame, Stamps
from bridge.keys import key_name
from bridge.link import Endpoint, Link
from bridge.metrics import Metrics
from bridge.sources.freshness import Freshness, capture_stamp
from bridge.wire import decode

DEFAULT_ADDRESS = "tcp://127.0.0.1:5571"
_PAUSE_S = 0.001
"""After a message that is no frame, so that a flood of them does not cost a core."""


class ZmqSource:
    """Receives the messages of docs/wire.md, the newest first and only."""

    def __init__(self, metrics: Metrics, endpoint: Endpoint) -> None:
        self._metrics = metrics
        self._endpoint = endpoint
        self._link = Link(zmq.SUB, endpoint, SourceError)
        self._freshness = Freshness(metrics)
        self._seq = 0
        self._refused = 0
        self._problem = ""

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> ZmqSource:
        options = spec.take(bind=flag, curve=flag, server=key_name)
        return cls(context.metrics, Endpoint.of(spec.target or DEFAULT_ADDRESS, context.config.lan, **options))

    def open(self) -> None:
        self._link.open()

    def read(self, timeout: float) -> Frame | None:
        deadline = now_ns() + from_seconds(timeout)
        while True:
            messages = self._link.receive((deadline - now_ns()) / NS)
            self._count_refused()
            if not messages:
                self._freshness.missed()
                return None
            for message in reversed(messages):
                sent = self._decode(message)
                if sent is not None:
                    return self._accept(sent)
            time.sleep(_PAUSE_S)

    def _decode(self, message: memoryview) -> Frame | None:
        try:
            return decode(message)
        except WireError as error:
            self._metrics.count("source.rejected")
            self._problem = str(error)
            return None

    def _accept(self, sent: Frame) -> Frame:
        self._problem = ""
        self._freshness.arrived(sent.pixels, f"{sent.width}x{sent.height} {sent.format}")
        # A sender on another machine has another clock; only ours can say how old a frame is.
        captured = now_ns() if self._endpoint.curve else capture_stamp(sent.stamps.captured)
        frame = Frame(sent.pixels, self._seq, Stamps(captured=captured), sent.media_ns)
        self._seq += 1
        return frame

    def _count_refused(self) -> None:
        """Peers that the handshake turned away are rejects too."""
        refused = self._link.refused
        if refused > self._refused:
            self._metrics.count("source.rejected", refused - self._refused)
            self._refused = refused

    def close(self) -> None:
        self._link.close()

    def describe(self) -> str:
        what = f"{self._problem}; {self._freshness.describe()}" if self._problem else self._freshness.describe()
        return f"ZMQ {self._endpoint.address}, {self._link.peers}: {what}"
