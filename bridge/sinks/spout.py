"""Finished frames over Spout, to TouchDesigner and others on the same Windows machine: `spout[:NAME]`.

Spout's images have the top row first, as ours: nothing is flipped.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import SinkError
from bridge.frame import Frame
from bridge.pacing import Pace

DEFAULT_NAME = "livelatent"
GL_RGBA = 0x1908
_TO_FOUR = {1: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_RGB2RGBA}
own: set[str] = set()
"""Names of the senders of this process, which its own source does not take."""
OTHER_CARD = (
    "not shared on the graphics card: it and Python are on different ones, or its driver lacks NV_DX_interop; set both "
    "programs to the same in Windows' Settings, Display, Graphics"
)


def require() -> Any:
    """The package; ModuleNotFoundError without it."""
    import SpoutGL

    return SpoutGL


class SpoutSink:
    """One native sender for as long as this object lives: Spout runs out of handles when they are made anew."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        self.pace = Pace()
        self._name = name
        self._spout = require()
        self._sender: Any = None
        self._is_open = False

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> SpoutSink:
        spec.take()
        return cls(spec.target or DEFAULT_NAME)

    def open(self) -> None:
        if self._is_open:
            return
        if self._sender is None:
            self._sender = self._spout.SpoutSender()
        if not self._sender.createOpenGL():
            raise SinkError("Spout: there is no OpenGL here; a remote desktop often has none")
        self._is_open = True
        self._sender.setSenderName(self._name)
        own.add(self._name)

    def write(self, frame: Frame) -> None:
        if not self._is_open:
            raise SinkError("the Spout sink is not open")
        pixels = frame.pixels
        four = np.ascontiguousarray(pixels if frame.channels == 4 else cv2.cvtColor(pixels, _TO_FOUR[frame.channels]))
        # A new size is no reason to make a new sender: Spout takes it over, and receivers are told.
        if not self._sender.sendImage(four, frame.width, frame.height, GL_RGBA, False, 0):
            raise SinkError(f"Spout can't send a picture of {frame.width}x{frame.height}")

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            own.discard(self._name)
            self._sender.releaseSender()
            self._sender.closeOpenGL()

    def describe(self) -> str:
        if not self._is_open:
            return f"Spout {self._name} (closed)"
        return f"Spout {self._name}" + ("" if self._sender.isGLDXReady() else f", {OTHER_CARD}")
