"""Records to a movie file that survives whatever happens to the program."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from bridge.clock import NS, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec, flag
from bridge.errors import ConfigError, SinkError
from bridge.frame import Frame, Pixels
from bridge.metrics import Metrics
from bridge.pacing import Pace
from bridge.sinks.recording import CODECS, DEFAULT_CODEC, TIMESCALE, Encoding, Recording, fit
from bridge.sources.options import choice, fps

log = logging.getLogger("livelatent.sink")
LIVE_FPS = 30.0
RATES = (
    *(Fraction(n) for n in (24, 25, 30, 48, 50, 60, 120)),
    *(Fraction(n * 1000, 1001) for n in (24, 30, 60, 120)),
)


class MovieSink:
    """`movie:OUT.mp4|.mov|.mkv[?fps=30&crf=18&codec=h264|hevc|ffv1&overwrite=0&painted=0]`.

    Live, one picture a tick of `fps`, stamped with the tick at which it was written: the file is as long as the
    recording took, and a moment without pictures is a pause in it, not a jump. When every frame of a medium is wanted,
    each picture has its own media time, so rate and length are the medium's.
    """

    def __init__(
        self,
        path: Path,
        metrics: Metrics,
        *,
        fps: float | None = None,
        crf: int = 18,
        codec: str | None = None,
        overwrite: bool = False,
        painted: bool = False,
        every_frame: bool = False,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        """`painted`: leave out what `display_rate` shows between painted pictures. `clock` is for tests."""
        self.path = path
        self.painted_only = painted
        self.every_frame = every_frame
        self.pace = Pace(fps=None, hold_s=None) if every_frame else Pace(fps=fps or LIVE_FPS)
        self._fps = fps
        self._crf = crf
        self._codec = codec or DEFAULT_CODEC[path.suffix.lower()]
        self._overwrite = overwrite
        self._metrics = metrics
        self._clock = clock
        self._written: set[Path] = set()
        self._file: Path | None = None
        self._recording: Recording | None = None
        self._held: Frame | None = None

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> MovieSink:
        path = Path(spec.target).expanduser()
        if path.suffix.lower() not in DEFAULT_CODEC:
            raise ConfigError(f"movie needs a file to write, OUT.mp4, OUT.mov or OUT.mkv, not {spec.target!r}")
        options = spec.take(fps=fps, crf=_crf, codec=choice(*CODECS), overwrite=flag, painted=flag)
        if options.get("codec") == "ffv1" and path.suffix.lower() != ".mkv":
            raise ConfigError(f"movie: ffv1 goes into a .mkv file, not {path.suffix}")
        return cls(path, context.metrics, **options, every_frame=context.config.every_frame)

    def open(self) -> None:
        """Reserve the file, so that what is wrong with it is known now and not at the first picture."""
        self.close()
        path = self._next_path()
        if not path.parent.is_dir():
            raise SinkError(f"{path} can't be written: there is no folder {path.parent}")
        try:
            path.open("wb" if self._overwrite else "xb").close()
        except FileExistsError as error:
            raise SinkError(f"{path} exists already; add ?overwrite=1 to replace it") from error
        except OSError as error:
            raise SinkError(f"{path} can't be written: {error.strerror}") from error
        self._file = path

    def _next_path(self) -> Path:
        """The file asked for; after an error in the same run OUT-2, OUT-3 …: what has been recorded before stays."""
        path, part = self.path, 1
        while path in self._written:
            part += 1
            path = self.path.with_name(f"{self.path.stem}-{part}{self.path.suffix}")
        return path

    def write(self, frame: Frame) -> None:
        if self._file is None:
            raise SinkError(f"movie: {self.path} is not open")
        if self._recording is not None:
            self._add(self._recording, frame)
        elif self.every_frame and self._fps is None:
            self._begin_with_second(self._file, frame)
        else:
            self._begin(self._file, frame, nearest_rate(round(NS / (self._fps or LIVE_FPS))))

    def _begin_with_second(self, path: Path, frame: Frame) -> None:
        """The rate that goes into the file's header is known when there are two frames."""
        held = self._held
        if held is None:
            self._held = frame
        elif self._time(frame) > self._time(held):
            self._held = None
            self._add(self._begin(path, held, nearest_rate(self._time(frame) - self._time(held))), frame)

    def _begin(self, path: Path, frame: Frame, rate: Fraction) -> Recording:
        self._written.add(path)
        recording = self._recording = Recording(path, Encoding(self._codec, rate, self._crf), frame.pixels)
        self._step = round(TIMESCALE / rate)
        self._start_ns = self._time(frame)
        self._last_pts = -self._step
        if (recording.width, recording.height) != (frame.width, frame.height):
            log.info("%s: %dx%d, since H.264 needs even sides", path.name, recording.width, recording.height)
        self._size = (frame.width, frame.height)
        self._add(recording, frame)
        return recording

    def _add(self, recording: Recording, frame: Frame) -> None:
        pts = self._pts(frame)
        if pts is not None:
            self._last_pts = pts
            recording.write(self._fitted(frame.pixels), pts)

    def _pts(self, frame: Frame) -> int | None:
        """Where this picture goes, in TIMESCALE; None if its place is taken (the same frame again)."""
        pts = round((self._time(frame) - self._start_ns) * TIMESCALE / NS)
        if not self.every_frame:
            return max(self._last_pts + self._step, round(pts / self._step) * self._step)
        if pts > self._last_pts:
            return pts
        if pts == self._last_pts:
            return None
        self._start_ns += (pts - self._last_pts - self._step) * NS // TIMESCALE  # the medium was wound back
        return self._last_pts + self._step

    def _time(self, frame: Frame) -> int:
        if not self.every_frame:
            return self._clock()
        return frame.media_ns if frame.media_ns >= 0 else frame.stamps.captured

    def _fitted(self, pixels: Pixels) -> Pixels:
        if (pixels.shape[1], pixels.shape[0]) == self._size:
            return pixels
        self._metrics.count("sink.refitted")
        return fit(pixels, *self._size)

    def close(self) -> None:
        path, self._file = self._file, None
        held, self._held = self._held, None
        try:
            if path is not None and held is not None:
                self._begin(path, held, Fraction(LIVE_FPS))
            recording, self._recording = self._recording, None
            if recording is not None:
                recording.close()
        finally:
            if path is not None and path.is_file() and path.stat().st_size == 0:
                path.unlink()

    def describe(self) -> str:
        recording = self._recording
        if recording is None:
            return f"{self.path.name} ({self._codec})"
        return f"{recording.path.name} {recording.width}x{recording.height} {self._codec}, {recording.frames} frames"


def nearest_rate(period_ns: int) -> Fraction:
    """The usual frame rate with this period, if there is one within 0.01 %; else just its inverse.

    Containers that count in milliseconds (Matroska) round the period, so a whole number of them matches within one.
    """
    tolerance_ns = NS / 1000 if period_ns % 1_000_000 == 0 else period_ns / 10_000
    best = min(RATES, key=lambda usual: abs(NS / usual - period_ns))
    return best if abs(NS / best - period_ns) < tolerance_ns else Fraction(NS, period_ns).limit_denominator(1001)


def _crf(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 51):
        raise ValueError("expected 0 (lossless) to 51")
    return int(text)
