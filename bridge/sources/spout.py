"""Frames over Spout, from TouchDesigner and others on the same Windows machine: `spout[:NAME]`.

NAME is any part of a sender's name; without one, the first that is not ourselves. Nothing wakes a receiver of Spout, so
it looks every two milliseconds. Spout's images have the top row first, as ours: nothing is flipped.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bridge.clock import MS, NS, from_seconds, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import SourceError
from bridge.frame import Frame, Pixels, Stamps, check_size
from bridge.metrics import Metrics
from bridge.sinks.spout import GL_RGBA, OTHER_CARD, own, require
from bridge.sources.freshness import Freshness
from bridge.sources.pick import pick, waiting

_LOOK_S = 0.002
_LIST_NS = 200 * MS
_BLACK_NS = 3 * NS


class SpoutSource:
    """Follows one sender: it may come, go and change its size at any time."""

    def __init__(self, metrics: Metrics, wanted: str = "") -> None:
        self._metrics, self._wanted = metrics, wanted
        self._spout = require()
        self._receiver: Any = None
        self._is_open = False
        self._name = ""
        self._buffer: Pixels = np.empty((0, 0, 4), np.uint8)
        self._freshness = Freshness(metrics)
        self._listed_ns = self._lit_ns = 0
        self._seq = 0
        self._problem = ""

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> SpoutSource:
        spec.take()
        return cls(context.metrics, spec.target)

    def open(self) -> None:
        """A sender that is not there yet is waited for in `read`. Raises SourceError without OpenGL."""
        if self._is_open:
            return
        if self._receiver is None:
            # One for the life of this object: Spout runs out of handles when they are made anew.
            self._receiver = self._spout.SpoutReceiver()
        if not self._receiver.createOpenGL():
            raise SourceError("Spout: there is no OpenGL here; a remote desktop often has none")
        self._is_open = True
        self._listed_ns = 0

    def read(self, timeout: float) -> Frame | None:
        if not self._is_open:
            raise SourceError("the Spout source is not open")
        deadline = now_ns() + from_seconds(timeout)
        while True:
            frame = self._receive() if self._name or self._find() else None
            if frame is not None:
                return frame
            self._freshness.missed()
            left = deadline - now_ns()
            if left <= 0:
                return None
            time.sleep(min(_LOOK_S, left / NS))

    def _find(self) -> bool:
        if now_ns() - self._listed_ns < _LIST_NS:
            return False
        self._listed_ns = now_ns()
        names = self._receiver.getSenderList()
        self._name = pick(names, self._wanted, own) or ""
        if not self._name:
            self._problem = waiting(names, self._wanted, own)
            return False
        self._receiver.setReceiverName(self._name)
        self._buffer = np.empty((0, 0, 4), np.uint8)
        self._lit_ns = now_ns()
        return True

    def _receive(self) -> Frame | None:
        receiver = self._receiver
        if not receiver.receiveImage(self._buffer if self._buffer.size else None, GL_RGBA, False, 0):
            self._lose()
            return None
        if receiver.isUpdated():
            width, height = receiver.getSenderWidth(), receiver.getSenderHeight()
            wrong = check_size(width, height, 4)
            if wrong:
                self._metrics.count("source.rejected")
                self._lose()
                self._problem = wrong
                return None
            self._buffer = np.zeros((height, width, 4), np.uint8)
            return None
        if not self._buffer.size or not receiver.isFrameNew():
            return None
        return self._accept(self._buffer.copy())

    def _accept(self, pixels: Pixels) -> Frame:
        now = now_ns()
        if pixels[::16, ::16, :3].any():
            self._lit_ns = now
        black = now - self._lit_ns > _BLACK_NS and not pixels[..., :3].any()
        self._problem = f"{self._name} is black; if it should not be, it is {OTHER_CARD}" if black else ""
        frame = Frame(pixels, self._seq, Stamps(captured=now))
        self._freshness.arrived(pixels, f"{frame.width}x{frame.height} {frame.format}")
        self._seq += 1
        return frame

    def _lose(self) -> None:
        self._receiver.releaseReceiver()
        self._name, self._problem = "", f"{self._name} is gone"
        self._listed_ns = now_ns()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._name = ""
            self._receiver.releaseReceiver()
            self._receiver.closeOpenGL()

    def describe(self) -> str:
        if not self._is_open:
            return "Spout (closed)"
        if self._problem:
            return f"Spout: {self._problem} ({self._freshness.describe()})"
        shared = "" if self._receiver.isGLDXReady() else f", {OTHER_CARD}"
        return f"Spout {self._name}: {self._freshness.describe()}{shared}"


def senders() -> list[str]:
    """Names of all Spout senders of this machine."""
    return list(require().SpoutReceiver().getSenderList())
