"""A movie file, decoded: pictures in order with exact times, upright, in the right colours. Knows nothing of clocks."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from bridge.clock import NS
from bridge.errors import SourceError
from bridge.frame import Pixels, check_size
from bridge.sources.colour import ToRgb

OPEN_S = 5.0
"""Playlists can be open-ended: ffmpeg would wait for ever for one that nobody writes to any more."""
MAX_BROKEN = 100
"""So many packets in a row that can't be decoded, and we give up."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, not converted yet."""

    image: Any
    position_ns: int
    """From the beginning of the movie."""
    duration_ns: int

    @property
    def end_ns(self) -> int:
        return self.position_ns + self.duration_ns


class Clip:
    """An open movie. Not thread-safe. Every failure of the file or its decoder is a SourceError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors = 0
        """Packets that could not be decoded, so far."""
        self._container: Any = None
        self._pictures: Generator[Picture, None, None]
        self._first_ns = 0
        self._open()
        first = next(self._pictures, None)
        if first is not None:
            self._first_ns = first.position_ns
            self._pictures = _push_back(first, self._pictures)

    def _open(self) -> None:
        if not self.path.is_file():
            what = "is a folder, not a movie" if self.path.is_dir() else "is not there"
            raise SourceError(f"{self.path} {what}")
        try:
            # The protocol is named so that a colon in the file's name is not taken for one, and it is the only one
            # allowed: a playlist can't make us open something else on the network.
            self._container = av.open(
                f"file:{os.fspath(self.path)}",
                metadata_errors="replace",
                options={"protocol_whitelist": "file"},
                timeout=OPEN_S,
            )
            self._stream = self._pick()
            self._decoder = self._make_decoder()
        except (av.FFmpegError, OSError, ValueError) as error:
            self.close()
            raise SourceError(f"{self.path.name} can't be read as a movie: {_reason(error)}") from error
        except SourceError:
            self.close()
            raise
        self._to_rgb = ToRgb()
        self._pictures = self._decode()

    def _pick(self) -> Any:
        streams = self._container.streams.video
        pictures = [
            s for s in streams if getattr(s, "codec_context", None) and s.codec_context.width and not _is_cover(s)
        ]
        if not pictures:
            raise SourceError(f"{self.path.name} has no video")
        stream = max(pictures, key=lambda s: s.width * s.height)
        wrong = check_size(stream.width, stream.height, 3)
        if wrong:
            raise SourceError(f"{self.path.name}: {wrong}")
        return stream

    def _make_decoder(self) -> Any:
        """The stream's own decoder, with threads; libvpx for VP8/VP9 with alpha, which ffmpeg's own ones ignore."""
        library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(self._stream.codec_context.name)
        if library and self._stream.metadata.get("alpha_mode") == "1":
            decoder = av.CodecContext.create(library, "r")
            decoder.extradata = self._stream.codec_context.extradata
            return decoder
        self._stream.thread_type = "AUTO"
        return self._stream.codec_context

    @property
    def width(self) -> int:
        return int(self._stream.width)

    @property
    def height(self) -> int:
        return int(self._stream.height)

    @property
    def rate(self) -> float:
        """Mean frames a second."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 25)

    @property
    def codec(self) -> str:
        return str(self._stream.codec_context.name)

    def next(self) -> Picture | None:
        """The next picture in order of time; None at the end. Raises SourceError when nothing decodes any more."""
        return next(self._pictures, None)

    def seek(self, position_ns: int) -> None:
        """The next picture will be the one shown at `position_ns`, or the first after it; none past the end."""
        self._jump(position_ns)
        picture = self._walk_to(position_ns)
        if picture is None or picture.position_ns > max(position_ns, self._first_ns):
            self._reopen()  # the container's index led past the target: walk there from the beginning
            picture = self._walk_to(position_ns)
        if picture is not None:
            self._pictures = _push_back(picture, self._pictures)

    def _walk_to(self, position_ns: int) -> Picture | None:
        return next((p for p in self._pictures if p.end_ns > position_ns), None)

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _jump(self, position_ns: int) -> None:
        self._pictures.close()
        try:
            self._container.seek(self._start_us + position_ns // 1000)
            self._decoder.flush_buffers()
        except av.FFmpegError:
            self._reopen()
        else:
            self._pictures = self._decode()

    @property
    def _start_us(self) -> int:
        stream = self._stream
        return int((stream.start_time or 0) * stream.time_base * 1_000_000)

    def hurry(self, on: bool) -> None:
        """Leave out pictures that no other depends on, for a decoder that can't keep up."""
        self._decoder.skip_frame = "NONREF" if on else "DEFAULT"

    def close(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _decode(self) -> Generator[Picture, None, None]:
        broken = count = 0
        for packet in self._packets():
            try:
                images = self._decoder.decode(packet)
            except av.error.EOFError:
                return
            except (av.FFmpegError, ValueError) as error:
                self.errors += 1
                broken += 1
                if broken > MAX_BROKEN:
                    raise SourceError(
                        f"{self.path.name}: {broken} broken packets in a row: {_reason(error)}"
                    ) from error
                continue
            broken = 0
            for image in images:
                yield self._picture(image, count)
                count += 1

    def _packets(self) -> Iterator[Any]:
        """All packets of the stream, then the empty one that flushes the decoder; a file cut short just ends."""
        try:
            for packet in self._container.demux(self._stream):
                if packet.size == 0:
                    break
                yield packet
        except (av.FFmpegError, OSError):
            self.errors += 1
        yield None

    def _picture(self, image: Any, index: int) -> Picture:
        base: Fraction = self._stream.time_base
        one = round(NS / self.rate)
        length = round((getattr(image, "duration", 0) or 0) * base * NS)
        if image.pts is None:
            return Picture(image, index * one, length or one)
        position = round((image.pts - (self._stream.start_time or 0)) * base * NS)
        return Picture(image, max(0, position), length or one)

    def pixels(self, picture: Picture) -> Pixels:
        """`picture` as uint8 (height, width, 3) RGB, or 4 RGBA where the movie has alpha; square pixels, upright."""
        image = picture.image
        wide = round(image.width * (self._stream.sample_aspect_ratio or 1))
        wrong = check_size(max(1, wide), image.height, 3)
        if wrong:
            raise SourceError(f"{self.path.name}: {wrong}")
        try:
            pixels = self._to_rgb(image)
        except (av.FFmpegError, ValueError, cv2.error) as error:
            raise SourceError(f"{self.path.name}: a picture can't be converted: {_reason(error)}") from error
        if wide != image.width:
            pixels = cv2.resize(pixels, (max(1, wide), image.height), interpolation=cv2.INTER_LINEAR)
        turns = round(getattr(image, "rotation", 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _is_cover(stream: Any) -> bool:
    """The picture of an album in a sound file is a video stream to ffmpeg."""
    return "attached_pic" in str(getattr(stream, "disposition", ""))


def _push_back(first: Picture, rest: Iterator[Picture]) -> Generator[Picture, None, None]:
    yield first
    yield from rest


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
