"""Finished frames over NDI: `ndi[:NAME][?fps=60&groups=NAMES]`, seen in the network as `HOST (NAME)`.

libndi listens on all interfaces and knows no passwords, so this sink wants `--lan`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from bridge import ndi
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import ConfigError, DriverError, SinkError
from bridge.frame import Frame
from bridge.ndi import Sender
from bridge.pacing import Pace
from bridge.sources.ndi import mark
from bridge.sources.options import fps

require = ndi.require
"""For the doctor: whether this driver has what it needs."""
DEFAULT_NAME = "livelatent"
HOLD_S = 0.1
"""A picture that stands still is sent again after this, for receivers that have just come; encoding costs."""


class NdiSink:
    """Sends to any number of receivers. While there is none, nothing is encoded."""

    def __init__(
        self, name: str = DEFAULT_NAME, *, fps: float | None = None, groups: str = "", library: Any = None
    ) -> None:
        """`library` is for tests: something like `bridge.ndi.Library`."""
        self.pace = Pace(fps=fps, hold_s=HOLD_S)
        rate = Fraction(fps or 60).limit_denominator(1001)
        self._rate = rate.numerator, rate.denominator
        self._name, self._groups = name, groups
        self._library = library or ndi.library()
        self._sender: Sender | None = None

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> NdiSink:
        options = spec.take(fps=fps, groups=str)
        if not context.config.lan.enabled:
            raise ConfigError("ndi: any machine of the network can watch an NDI sender: run with --lan to allow that")
        return cls(spec.target or DEFAULT_NAME, **options)

    def open(self) -> None:
        self.close()
        try:
            self._sender = self._library.sender(self._name, self._groups)
        except DriverError as error:
            raise SinkError(str(error)) from error

    def write(self, frame: Frame) -> None:
        sender = self._sender
        if sender is None:
            raise SinkError("the NDI sink is not open")
        if sender.receivers:
            sender.send(frame.pixels, self._rate, mark(frame))

    def close(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def describe(self) -> str:
        sender = self._sender
        if sender is None:
            return f"NDI {self._name} (closed)"
        count = sender.receivers
        return f"NDI {sender.name}, {count} receiver{'s' * (count != 1)}"
