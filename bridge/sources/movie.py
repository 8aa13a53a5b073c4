"""A movie file, played by its own time stamps."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from bridge.clock import NS, from_seconds, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec, flag
from bridge.errors import ConfigError, SourceEnded, SourceError
from bridge.frame import Frame, Pixels, Stamps
from bridge.metrics import Metrics
from bridge.sources.clip import Clip, Picture
from bridge.sources.options import choice, seconds

HURRY_NS = NS // 2
"""So late, and the decoder starts to leave out what nothing depends on."""
GIVE_UP_NS = 2 * NS
"""So late (the machine slept, the show was stopped in a debugger), and the movie's clock is set anew."""
SHOW_ANYWAY_NS = NS // 4
"""A decoder that is always late still shows a picture this often."""


class MovieSource:
    """`movie:PATH[?loop=1&start=SECONDS&pace=clock|max]`: any file that ffmpeg reads.

    pace=clock shows each picture when its time stamp says; one that is late by more than its own length is decoded but
    not shown. pace=max, or a run that wants every frame, gives all of them in order, as fast as they are taken.

    The next picture is decoded while the one before is on show. So the step from the end to the beginning, which costs
    a seek and the first picture's decoding, is hidden too.
    """

    def __init__(
        self, path: Path, metrics: Metrics, *, loop: bool = True, start: float = 0.0, free: bool = False
    ) -> None:
        """`start` in seconds; `free`: every frame, no clock."""
        self.path, self.loop, self.free = path, loop, free
        self._metrics = metrics
        self._start_ns = from_seconds(start)
        self._lock = threading.Lock()
        self._wanted_ns: int | None = None
        self._clip: Clip | None = None
        self._ready: tuple[Pixels, int] | None = None
        self._seq = 0
        self._reset()

    def _reset(self) -> None:
        self._base_ns = 0
        self._first_ns: int | None = None
        self._end_ns = 0
        self._origin_ns: int | None = None
        self._shown_ns = 0
        self._media_ns = 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> MovieSource:
        if not spec.target:
            raise ConfigError("movie needs a file: movie:PATH")
        options = spec.take(loop=flag, start=seconds, pace=choice("clock", "max"), audio=str)
        every = context.config.every_frame
        return cls(
            Path(spec.target).expanduser(),
            context.metrics,
            loop=options.get("loop", not every),
            start=options.get("start", 0.0),
            free=every or options.get("pace") == "max",
        )

    def open(self) -> None:
        self.close()
        self._reset()
        self._clip = Clip(self.path)
        if self._start_ns:
            self._clip.seek(self._start_ns)
        self._ready = self._next_shown(self._clip)

    def seek(self, position_s: float) -> None:
        """Go on from `position_s` (seconds into the movie) with the next frame. From any thread."""
        with self._lock:
            self._wanted_ns = max(0, from_seconds(position_s))

    def read(self, timeout: float) -> Frame | None:
        clip = self._clip
        if clip is None:
            raise SourceError(f"movie: {self.path} is not open")
        self._obey_seek(clip)
        if self._ready is None:
            self._ready = self._next_shown(clip)
        pixels, media_ns = self._ready
        if not self._wait(media_ns, timeout):
            return None
        self._ready = None
        at = now_ns()
        self._shown_ns, self._media_ns = at, media_ns
        frame = Frame(pixels, self._seq, Stamps(captured=at), media_ns)
        self._seq += 1
        return frame

    def _wait(self, media_ns: int, timeout: float) -> bool:
        """Sleep until the picture is due; False if that is more than `timeout` seconds away."""
        if self.free:
            return True
        if self._origin_ns is None:
            self._origin_ns = now_ns() - media_ns
        left = (self._origin_ns + media_ns - now_ns()) / NS
        time.sleep(min(max(0.0, left), max(0.0, timeout)))
        return left <= timeout

    def _obey_seek(self, clip: Clip) -> None:
        with self._lock:
            wanted, self._wanted_ns = self._wanted_ns, None
        if wanted is not None:
            clip.seek(wanted)
            self._ready = self._origin_ns = None

    def _next_shown(self, clip: Clip) -> tuple[Pixels, int]:
        """Decode up to the next picture that is not too late; its pixels and its time."""
        while True:
            picture = clip.next() or self._turn_over(clip)
            if self._first_ns is None:
                self._first_ns = picture.position_ns
            self._end_ns = max(self._end_ns, picture.end_ns)
            media_ns = self._base_ns + picture.position_ns
            if self._in_time(clip, media_ns, picture.duration_ns):
                return clip.pixels(picture), media_ns
            self._metrics.count("source.dropped")

    def _in_time(self, clip: Clip, media_ns: int, length_ns: int) -> bool:
        if self.free or self._origin_ns is None:
            return True
        at = now_ns()
        late_ns = at - self._origin_ns - media_ns
        clip.hurry(late_ns > HURRY_NS)
        if late_ns > GIVE_UP_NS:
            self._origin_ns = at - media_ns
            return True
        return late_ns <= length_ns or at - self._shown_ns > SHOW_ANYWAY_NS

    def _turn_over(self, clip: Clip) -> Picture:
        """The first picture of the next round. SourceEnded if there is no next round."""
        if clip.errors:
            self._metrics.count("source.errors", clip.errors)
            clip.errors = 0
        if self._first_ns is None:
            late = f" after second {self._start_ns / NS:g}" if self._start_ns else ""
            raise SourceError(f"{self.path.name} has no picture that can be decoded{late}")
        if not self.loop:
            raise SourceEnded(f"{self.path.name} is over")
        self._base_ns += self._end_ns - self._first_ns
        clip.seek(self._start_ns)
        picture = clip.next()
        if picture is None:
            raise SourceError(f"{self.path.name} can't be read from its beginning again")
        return picture

    def close(self) -> None:
        clip, self._clip, self._ready = self._clip, None, None
        if clip is not None:
            clip.close()

    def describe(self) -> str:
        clip = self._clip
        if clip is None:
            return f"{self.path.name} (closed)"
        shape = f"{clip.width}x{clip.height} {clip.codec} {clip.rate:.4g} frames/s"
        return f"{self.path.name} {shape}, at {self._media_ns / NS:.1f} s"
