"""A movie file being written: container, encoder, time stamps. Knows nothing of clocks and sinks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from bridge.errors import SinkError
from bridge.frame import Pixels
from bridge.sources.colour import HD_LINES, rgb_to_yuv420

TIMESCALE = 720_000
"""Ticks a second: every usual rate, 24000/1001 too, has a whole number of them."""
GOP_S = 1.0
"""A key frame this often: what a crash or a power cut can cost at most, and where players can jump to."""
CODECS = {"h264": "libx264", "hevc": "libx265", "ffv1": "ffv1"}
DEFAULT_CODEC = {".mp4": "h264", ".mov": "h264", ".mkv": "ffv1"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to encode."""

    codec: str
    """A key of CODECS."""
    fps: Fraction
    crf: int

    @property
    def lossless(self) -> bool:
        return self.codec == "ffv1"


class Recording:
    """Has the size and channels of its first picture; `write` takes that size. SinkError when it can't be written."""

    def __init__(self, path: Path, encoding: Encoding, first: Pixels) -> None:
        self.path = path
        self.frames = 0
        self._encoding = encoding
        height, width, channels = first.shape
        self._even = not encoding.lossless
        self.width, self.height = (width + width % 2, height + height % 2) if self._even else (width, height)
        self._channels = channels if encoding.lossless else 3
        self._space = Colorspace.ITU709 if height >= HD_LINES else Colorspace.ITU601
        self._file = _File(path)
        try:
            self._container = av.open(self._file, "w", format=_format(path), options=_options(path))
            self._stream = self._add_stream()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._file.close()
            raise SinkError(f"{path} can't be written: {_reason(error)}") from error

    def _add_stream(self) -> Any:
        encoding = self._encoding
        stream = self._container.add_stream(CODECS[encoding.codec], rate=encoding.fps)
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = "yuv420p" if self._even else {1: "gray", 3: "bgr0", 4: "bgra"}[self._channels]
        stream.time_base = stream.codec_context.time_base = Fraction(1, TIMESCALE)
        gop = str(max(1, round(GOP_S * encoding.fps)))
        if self._even:
            stream.options = {"preset": "veryfast", "crf": str(encoding.crf), "g": gop}
            if encoding.codec == "hevc":
                stream.options |= {"x265-params": "log-level=error"}
                stream.codec_context.codec_tag = "hvc1"
            _tag(stream.codec_context, self._space)
        else:
            stream.options = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
            stream.thread_type = "SLICE"
        return stream

    def write(self, pixels: Pixels, pts: int) -> None:
        """One picture of the first one's size; `pts` in TIMESCALE, greater than the one before."""
        frame = self._frame(pixels)
        frame.pts, frame.time_base = pts, Fraction(1, TIMESCALE)
        self._encode(frame)
        self.frames += 1

    def _frame(self, pixels: Pixels) -> Any:
        pixels = _with_channels(pixels, self._channels)
        if self._even:
            pad = (self.height - pixels.shape[0], self.width - pixels.shape[1])
            if any(pad):
                pixels = cv2.copyMakeBorder(pixels, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE)
            return av.VideoFrame.from_ndarray(rgb_to_yuv420(pixels, self._space), format="yuv420p")
        if self._channels == 1:
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[..., 0]), format="gray")
        source, stored = ("rgb24", "bgr0") if self._channels == 3 else ("rgba", "bgra")
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=source).reformat(format=stored)

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"{self.path} can't be written: {_reason(error)}") from error
        self._check()

    def _check(self) -> None:
        if self._file.error is not None:
            raise SinkError(f"{self.path} can't be written: {_reason(self._file.error)}") from self._file.error

    def close(self) -> None:
        """Write what the encoder still holds, and the index. SinkError when that fails; the file is closed anyway."""
        try:
            self._encode(None)
        finally:
            try:
                self._container.close()
            except (av.FFmpegError, OSError) as error:
                raise SinkError(f"{self.path} can't be finished: {_reason(error)}") from error
            finally:
                self._file.close()
        self._check()


class _File:
    """What libavformat writes to. It never sees an error: going on after one, even to close, can crash it.

    The first error is kept in `error` for us, and what is written after it is thrown away.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self.name = path.name
        self._size = self._at = 0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise SinkError(f"{path} can't be written: {error.strerror}") from error

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and self.error is None:
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.error = error
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        if self.error is None:
            try:
                self._file.seek(self._at)
            except OSError as error:
                self.error = error
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error


def fit(pixels: Pixels, width: int, height: int) -> Pixels:
    """`pixels` scaled into width × height with black bars, as large as it goes."""
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    w, h = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    shrinks = scale < 1
    scaled = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR).reshape(h, w, -1)
    out = np.zeros((height, width, pixels.shape[2]), np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    out[top : top + h, left : left + w] = scaled
    return out


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    have = pixels.shape[2]
    if have == channels:
        return pixels
    code = {
        (1, 3): cv2.COLOR_GRAY2RGB,
        (1, 4): cv2.COLOR_GRAY2RGBA,
        (3, 1): cv2.COLOR_RGB2GRAY,
        (3, 4): cv2.COLOR_RGB2RGBA,
        (4, 1): cv2.COLOR_RGBA2GRAY,
        (4, 3): cv2.COLOR_RGBA2RGB,
    }[have, channels]
    return np.asarray(cv2.cvtColor(pixels, code)).reshape(*pixels.shape[:2], channels)


def _tag(context: Any, space: Colorspace) -> None:
    """Numbers of ITU-T H.273: the matrix that we used, and BT.709's primaries and transfer, to which sRGB is close."""
    context.color_range = ColorRange.MPEG
    context.colorspace = 1 if space == Colorspace.ITU709 else 6
    context.color_primaries = 1
    context.color_trc = 1


def _format(path: Path) -> str:
    return {".mkv": "matroska", ".mov": "mov"}.get(path.suffix.lower(), "mp4")


def _options(path: Path) -> dict[str, str]:
    """MP4 in fragments, so that what is on the disk can be played at any moment, crash or not.

    Newer libavformat then makes it an ordinary MP4 when it is closed; with an older one it stays fragmented.
    """
    if path.suffix.lower() == ".mkv":
        return {"cluster_time_limit": "1000"}
    if av.library_versions["libavformat"] >= (62,):
        return {"movflags": "hybrid_fragmented+frag_keyframe"}
    return {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
