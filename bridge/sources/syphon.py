"""Frames over Syphon, from TouchDesigner and others on the same Mac: `syphon[:NAME][?flip=1]`.

NAME is any part of a server's or its program's name; without one, the first that is not ourselves. Syphon's textures
have the bottom row first: they are turned over here, once. `flip=0` is for a server that sends the top row first.
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np

from bridge.clock import MS, NS, from_seconds, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec, flag
from bridge.errors import SourceError
from bridge.frame import Frame, Pixels, Stamps, check_size
from bridge.metrics import Metrics
from bridge.sinks.syphon import announce, own, require
from bridge.sources.freshness import Freshness
from bridge.sources.pick import pick, waiting

BGRA8, RGBA8 = 80, 70
"""MTLPixelFormatBGRA8Unorm and MTLPixelFormatRGBA8Unorm."""
_LOOK_S = 0.002
_LIST_NS = 200 * MS


class SyphonSource:
    """Follows one server: it may come, go and change its size at any time."""

    def __init__(self, metrics: Metrics, wanted: str = "", flip: bool = True) -> None:
        self._metrics, self._wanted, self._flip = metrics, wanted, flip
        self._syphon = require()
        self._directory: Any = None
        self._client: Any = None
        self._name = ""
        self._freshness = Freshness(metrics)
        self._listed_ns = 0
        self._seq = 0
        self._problem = ""

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> SyphonSource:
        options = spec.take(flip=flag)
        announce(context)
        return cls(context.metrics, spec.target, **options)

    def open(self) -> None:
        """Always succeeds: a server that is not there yet is waited for in `read`."""
        self.close()
        self._directory = self._syphon.SyphonServerDirectory()
        self._directory.run_loop_interval = 0.001
        self._listed_ns = 0

    def read(self, timeout: float) -> Frame | None:
        if self._directory is None:
            raise SourceError("the Syphon source is not open")
        deadline = now_ns() + from_seconds(timeout)
        while True:
            frame = self._receive() if self._client is not None or self._find() else None
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
        servers = {label(server): server for server in self._directory.servers if server.uuid not in own}
        name = pick(list(servers), self._wanted)
        if name is None:
            self._problem = waiting(list(servers), self._wanted)
            return False
        try:
            self._client = self._syphon.SyphonMetalClient(servers[name])
        except RuntimeError as error:
            self._problem = f"{name}: {error}"
            return False
        self._name = name
        return True

    def _receive(self) -> Frame | None:
        if not self._client.is_valid:
            self._lose()
            return None
        if not self._client.has_new_frame:
            return None
        texture = self._client.new_frame_image
        if texture is None:
            return None
        try:
            pixels = self._pixels(texture)
        except ValueError as error:
            self._metrics.count("source.rejected")
            self._problem = f"{self._name}: {error}"
            return None
        self._problem = ""
        frame = Frame(pixels, self._seq, Stamps(captured=now_ns()))
        self._freshness.arrived(pixels, f"{frame.width}x{frame.height} {frame.format}")
        self._seq += 1
        return frame

    def _pixels(self, texture: Any) -> Pixels:
        width, height, kind = texture.width(), texture.height(), texture.pixelFormat()
        wrong = check_size(width, height, 4)
        if wrong or kind not in (BGRA8, RGBA8):
            raise ValueError(wrong or f"its pixels are of Metal's format {kind}, not of 8 bits")
        rows = np.frombuffer(self._syphon.utils.raw.copy_mtl_texture_to_bytes(texture), np.uint8).reshape(
            height, width, 4
        )
        rows = rows[::-1] if self._flip else rows
        return np.ascontiguousarray(rows if kind == RGBA8 else cv2.cvtColor(rows, cv2.COLOR_BGRA2RGBA), np.uint8)

    def _lose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._problem = f"{self._name} is gone"
            client.stop()

    def close(self) -> None:
        self._lose()
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.close()

    def describe(self) -> str:
        if self._directory is None:
            return "Syphon (closed)"
        if self._problem:
            return f"Syphon: {self._problem} ({self._freshness.describe()})"
        return f"Syphon {self._name}: {self._freshness.describe()}"


def label(server: Any) -> str:
    """`TouchDesigner (out1)`: some servers have a name, some only their program's."""
    return f"{server.app_name} ({server.name})" if server.name else str(server.app_name)


def servers() -> list[str]:
    """Labels of all Syphon servers of this machine."""
    with require().SyphonServerDirectory() as directory:
        directory.run_loop_interval = 0.2
        return [label(server) for server in directory.servers]
