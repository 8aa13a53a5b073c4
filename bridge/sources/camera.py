"""A camera or capture card, through OpenCV."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import cv2

from bridge.clock import NS, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import SourceError
from bridge.frame import Frame
from bridge.sources.capture import Capture
from bridge.sources.options import fps, seconds, size

OPEN_S = 10.0
"""Some drivers take seconds until the first picture."""
SILENT_S = 1.5
"""No picture for so long, and the camera is gone. With the time of one read, noticed within 2 s."""
FREEZE_S = 1.5
LET_GO_S = 0.3


class CameraSource:
    """`camera[:INDEX|/dev/videoN][?size=1280x720&fps=30&fourcc=MJPG&freeze=1.5]`.

    Size, rate and fourcc are wishes: cameras take the nearest that they have, and each frame tells its own size. One
    that sends nothing, or bit-identical pictures (no sensor does that), for 1.5 s raises SourceError, so that it is
    opened again after a pause. `freeze=0` accepts standing pictures: for capture cards and virtual cameras.
    """

    def __init__(
        self,
        target: int | str = 0,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        fourcc: str = "",
        freeze: float = FREEZE_S,
        silent_s: float = SILENT_S,
        opener: Callable[[CameraSource], Any] | None = None,
    ) -> None:
        """`opener` is for tests: it returns something like a cv2.VideoCapture."""
        self.target, self.size, self.fps, self.fourcc, self.freeze = target, size, fps, fourcc, freeze
        self._silent_ns = round(silent_s * NS)
        self._opener = opener or open_device
        self._capture: Capture | None = None
        self._last_ns = 0
        self._next_seq = 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> CameraSource:
        target = int(spec.target) if spec.target.isdecimal() else spec.target or 0
        return cls(target, **spec.take(size=size, fps=fps, fourcc=_fourcc, freeze=seconds))

    @property
    def name(self) -> str:
        """`camera 0` or `camera /dev/video2`."""
        return f"camera {self.target}"

    def open(self) -> None:
        self.close()
        capture = Capture(self.name, lambda: self._opener(self), self.freeze, self._next_seq)
        self._capture = capture
        deadline = now_ns() + round(OPEN_S * NS)
        while not (capture.shape or capture.error) and now_ns() < deadline:
            time.sleep(0.005)
        if not capture.shape:
            self.close()
            raise SourceError(capture.error or f"{self.name} opens, but gives no picture within {OPEN_S:.0f} s")
        self._last_ns = now_ns()

    def read(self, timeout: float) -> Frame | None:
        capture = self._capture
        if capture is None:
            raise SourceError(f"{self.name} is not open")
        frame = capture.slot.take(timeout)
        if frame is not None:
            self._last_ns = now_ns()
            self._next_seq = frame.seq + 1
            return frame
        if capture.error:
            raise SourceError(capture.error)
        if now_ns() - self._last_ns > self._silent_ns:
            raise SourceError(f"{self.name} sends no pictures any more")
        return None

    def close(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.let_go(LET_GO_S)

    def describe(self) -> str:
        capture = self._capture
        return f"{self.name} {capture.shape}" if capture is not None else f"{self.name} (closed)"


def open_device(camera: CameraSource) -> Any:
    """The cv2.VideoCapture, told the wishes; it may turn out not to be opened."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # or it warns at every attempt to open
    backend = cv2.CAP_DSHOW if sys.platform == "win32" and isinstance(camera.target, int) else cv2.CAP_ANY
    device = cv2.VideoCapture(camera.target, backend)
    if camera.fourcc:
        device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*camera.fourcc))
    if camera.size:
        device.set(cv2.CAP_PROP_FRAME_WIDTH, camera.size[0])
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, camera.size[1])
    if camera.fps:
        device.set(cv2.CAP_PROP_FPS, camera.fps)
    device.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return device


def _fourcc(text: str) -> str:
    if len(text) != 4 or not text.isascii():
        raise ValueError("expected four letters, for example MJPG")
    return text
