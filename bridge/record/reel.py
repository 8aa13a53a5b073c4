"""Pictures into files, each once: a movie of H.264 or FFV1, or a folder of PNGs. A picture of another size begins
another file, so that nothing is scaled."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2

from bridge.clock import NS
from bridge.errors import SinkError
from bridge.frame import Pixels
from bridge.record.places import Format
from bridge.sinks.recording import TIMESCALE, Encoding, Recording

CRF = 18
NOMINAL = Fraction(30)
"""What the encoder plans with; every picture has its own time."""
STEP = TIMESCALE // 1000
"""From one picture to the next, at least: Matroska counts in milliseconds."""
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class Reel(Protocol):
    """Takes pictures in order of time. Every failure is a SinkError with a sentence."""

    def write(self, pixels: Pixels, at_ns: int) -> None:
        """One picture, uint8 (h, w, 1 | 3 | 4), of this time."""

    def close(self) -> None:
        """Finish the file; safe to call twice."""


def open_reel(folder: Path, stem: str, format: Format) -> Reel:
    """A reel that writes `stem` in `folder`: `picture.mp4`, and `picture-2.mp4` after a change of size."""
    if format == "png":
        return PngReel(folder / stem)
    return MovieReel(folder / f"{stem}.{format}", "ffv1" if format == "mkv" else "h264")


class MovieReel:
    """What is on the disk can be played at any moment: MP4 in fragments of a second, Matroska in clusters of one."""

    def __init__(self, path: Path, codec: str) -> None:
        self._path, self._codec = path, codec
        self._file: Recording | None = None
        self._shape: tuple[int, ...] = ()
        self._files = self._start_ns = self._last = 0

    def write(self, pixels: Pixels, at_ns: int) -> None:
        shape = pixels.shape if self._codec == "ffv1" else pixels.shape[:2]
        if self._file is None or shape != self._shape:
            self._begin(pixels, shape, at_ns)
        assert self._file is not None
        self._last = max(self._last + STEP, round((at_ns - self._start_ns) * TIMESCALE / NS))
        self._file.write(pixels, self._last)

    def _begin(self, pixels: Pixels, shape: tuple[int, ...], at_ns: int) -> None:
        self.close()
        self._files += 1
        path = self._path if self._files == 1 else self._path.with_stem(f"{self._path.stem}-{self._files}")
        self._file = Recording(path, Encoding(self._codec, NOMINAL, CRF), pixels)
        self._shape, self._start_ns, self._last = shape, at_ns, -STEP

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class PngReel:
    """`00000000.png` and on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def write(self, pixels: Pixels, at_ns: int) -> None:
        path = self._folder / f"{self._count:08d}.png"
        try:
            self._folder.mkdir(exist_ok=True)
            path.write_bytes(png(pixels))
        except OSError as error:
            raise SinkError(f"{path} can't be written: {error.strerror or error}") from error
        self._count += 1

    def close(self) -> None:
        """Each file was whole when it was written."""


def png(pixels: Pixels) -> bytes:
    """As PNG, quickly rather than tightly."""
    turn = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(pixels.shape[2])
    done, data = cv2.imencode(".png", pixels if turn is None else cv2.cvtColor(pixels, turn), _PNG)
    if not done:
        raise SinkError("a picture can't be made a PNG")
    return data.tobytes()
