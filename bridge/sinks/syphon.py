"""Finished frames over Syphon, to TouchDesigner and others on the same Mac: `syphon[:NAME][?flip=1]`.

Syphon's textures have the bottom row first: ours are turned over here, once. `flip=0` leaves that out.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from bridge.context import Context
from bridge.drivers import DriverSpec, flag
from bridge.errors import SinkError
from bridge.frame import Frame, Pixels
from bridge.pacing import Pace

DEFAULT_NAME = "livelatent"
_TO_FOUR = {1: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_RGB2RGBA}
own: set[str] = set()
"""Identifiers of the servers of this process, which its own source does not take."""


def require() -> Any:
    """The package; ModuleNotFoundError without it."""
    import syphon
    import syphon.utils.raw

    return syphon


def announce(context: Context) -> None:
    """Let macOS pass on who comes and goes: its notices are delivered to the main thread alone, while that listens."""
    if _listen not in context.main_tasks:
        context.main_tasks.append(_listen)


def _listen() -> None:
    global _directory
    if _directory is None:
        _directory = require().SyphonServerDirectory()
        _directory.run_loop_interval = 0.001
    _directory.update_run_loop()


_directory: Any = None


class SyphonSink:
    """One server for as long as it is open, one texture for as long as the size stays."""

    def __init__(self, name: str = DEFAULT_NAME, flip: bool = True) -> None:
        self.pace = Pace()
        self._name, self._flip = name, flip
        self._syphon = require()
        self._server: Any = None
        self._texture: Any = None
        self._size = (0, 0)

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> SyphonSink:
        options = spec.take(flip=flag)
        announce(context)
        return cls(spec.target or DEFAULT_NAME, **options)

    def open(self) -> None:
        self.close()
        try:
            self._server = self._syphon.SyphonMetalServer(self._name)
        except RuntimeError as error:
            raise SinkError(f"Syphon can't serve {self._name!r}: {error}") from error
        own.add(self._server.server_description.uuid)

    def write(self, frame: Frame) -> None:
        if self._server is None:
            raise SinkError("the Syphon sink is not open")
        if self._size != (frame.width, frame.height):
            texture = self._syphon.utils.raw.create_mtl_texture(self._server.device, frame.width, frame.height)
            if texture is None:
                raise SinkError(f"Metal has no room for a texture of {frame.width}x{frame.height}")
            self._texture, self._size = texture, (frame.width, frame.height)
        self._syphon.utils.raw.copy_bytes_to_mtl_texture(self._rows(frame.pixels).tobytes(), self._texture)
        self._server.publish_frame_texture(self._texture)

    def _rows(self, pixels: Pixels) -> Pixels:
        channels = pixels.shape[2]
        four = pixels if channels == 4 else np.asarray(cv2.cvtColor(pixels, _TO_FOUR[channels]), np.uint8)
        return four[::-1] if self._flip else four

    def close(self) -> None:
        server, self._server = self._server, None
        self._texture, self._size = None, (0, 0)
        if server is not None:
            own.discard(server.server_description.uuid)
            server.stop()

    def describe(self) -> str:
        if self._server is None:
            return f"Syphon {self._name} (closed)"
        return f"Syphon {self._name}, " + ("watched" if self._server.has_clients else "nobody watches")
