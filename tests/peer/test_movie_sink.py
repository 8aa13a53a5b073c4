"""The movie sink: what ffprobe and PyAV say about the files that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support.clips import BARS, colour_bars, needs_ffmpeg, number, numbered

from bridge.config import Config
from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.errors import ConfigError, SinkError, SourceEnded
from bridge.frame import Frame, Pixels, Stamps
from bridge.sinks.movie import MovieSink, nearest_rate
from bridge.sources.scene import draw

pytestmark = needs_ffmpeg
EVERY = Context(config=Config(every_frame=True))
MS = 1_000_000


class _Clock:
    """Time as the test says."""

    ns = 7 * 10**9

    def __call__(self) -> int:
        return self.ns


def flat(level: int, width: int = 64, height: int = 48, channels: int = 3) -> Pixels:
    return np.full((height, width, channels), level, np.uint8)


def live(path: Path, clock: _Clock, **options: Any) -> MovieSink:
    sink = MovieSink(path, Context().metrics, clock=clock, **options)
    sink.open()
    return sink


def probe(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", str(path)]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (stream,) = answer["streams"]
    return {**stream, "length": float(answer["format"]["duration"])}


def decoded(path: Path) -> list[Pixels]:
    """RGB, as our own movie source shows it."""
    source = make_source(f"movie:{path}", EVERY)
    source.open()
    out: list[Pixels] = []
    try:
        while True:
            frame = source.read(1.0)
            assert frame is not None
            out.append(frame.pixels)
    except SourceEnded:
        source.close()
    return out


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_live_recording_is_as_long_as_it_took(tmp_path: Path, name: str) -> None:
    clock = _Clock()
    sink = live(tmp_path / name, clock)
    for i in range(45):
        clock.ns = 7 * 10**9 + round(i * 1e9 / 30) + (i % 3) * 4 * MS  # a little late, as threads are
        sink.write(Frame(flat(20 + 4 * i), i))
    sink.close()
    found = probe(tmp_path / name)
    assert (found["width"], found["height"]) == (64, 48)
    assert int(found["nb_read_frames"]) == 45
    assert abs(found["length"] - 1.5) < 0.02
    assert Fraction(found["r_frame_rate"]) == 30
    assert [number(p) for p in decoded(tmp_path / name)] == list(range(45))


def test_a_pause_in_a_live_recording_is_a_pause_in_the_file(tmp_path: Path) -> None:
    clock = _Clock()
    sink = live(tmp_path / "out.mp4", clock)
    for i in (0, 1, 2, 33):
        clock.ns = 7 * 10**9 + round(i * 1e9 / 30)
        sink.write(Frame(flat(50), i))
    sink.close()
    found = probe(tmp_path / "out.mp4")
    assert int(found["nb_read_frames"]) == 4
    assert abs(found["length"] - 34 / 30) < 0.02


def test_live_at_another_rate_and_repeats_are_written(tmp_path: Path) -> None:
    clock = _Clock()
    sink = live(tmp_path / "out.mkv", clock, fps=29.97, codec="h264")
    assert sink.pace.fps == 29.97
    same = Frame(flat(90), 0)
    for i in range(12):
        clock.ns = 7 * 10**9 + round(i * 1e9 / 29.97)
        sink.write(same)
    sink.close()
    found = probe(tmp_path / "out.mkv")
    assert (found["codec_name"], int(found["nb_read_frames"])) == ("h264", 12)
    assert Fraction(found["avg_frame_rate"]) == Fraction(30000, 1001)


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "50", "12"])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_movie_goes_through_with_its_rate_length_and_count(tmp_path: Path, rate: str, name: str) -> None:
    entry = numbered(tmp_path / "in.mp4", 24, rate)
    source, sink = make_source(f"movie:{entry}", EVERY), make_sink(f"movie:{tmp_path / name}", EVERY)
    source.open()
    sink.open()
    assert sink.pace.fps is None
    assert sink.pace.hold_s is None
    try:
        while True:
            frame = source.read(1.0)
            assert frame is not None
            sink.write(frame)
            sink.write(frame)  # the same again must not count
    except SourceEnded:
        sink.close()
        source.close()
    before, after = probe(entry), probe(tmp_path / name)
    assert after["nb_read_frames"] == before["nb_read_frames"] == "24"
    assert Fraction(after["avg_frame_rate"]) == Fraction(rate)
    assert abs(after["length"] - before["length"]) < 0.002
    assert [number(p) for p in decoded(tmp_path / name)] == list(range(24))


def test_variable_times_and_loops_and_winding_back_stay_in_order(tmp_path: Path) -> None:
    sink = make_sink(f"movie:{tmp_path}/out.mkv", EVERY)
    sink.open()
    for i, media_ms in enumerate((500, 540, 640, 900, 100, 140, 180)):
        sink.write(Frame(flat(20 + 4 * i), i, media_ns=media_ms * MS))
    sink.close()
    with av.open(str(tmp_path / "out.mkv")) as container:
        times = [round(float(f.time) * 1000) for f in container.decode(video=0)]
    assert times == [0, 40, 140, 400, 440, 480, 520]


def test_every_frame_of_a_live_source_uses_its_capture_times(tmp_path: Path) -> None:
    sink = make_sink(f"movie:{tmp_path}/out.mp4", EVERY)
    sink.open()
    for i in range(10):
        sink.write(Frame(flat(50 + i), i, Stamps(captured=10**9 + i * 100 * MS)))
    sink.close()
    assert abs(probe(tmp_path / "out.mp4")["length"] - 1.0) < 0.01


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_ffv1_is_bit_exact(tmp_path: Path, channels: int) -> None:
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (51, 77, channels), np.uint8) for _ in range(4)]
    clock = _Clock()
    sink = live(tmp_path / "out.mkv", clock)
    for i, picture in enumerate(pictures):
        clock.ns += 33_333_333
        sink.write(Frame(picture, i))
    sink.close()
    back = decoded(tmp_path / "out.mkv")
    assert len(back) == 4
    for sent, got in zip(pictures, back, strict=True):
        assert np.array_equal(np.broadcast_to(sent, got.shape) if channels == 1 else sent, got)
    assert probe(tmp_path / "out.mkv")["codec_name"] == "ffv1"


@pytest.mark.parametrize(("lines", "space"), [(64, "smpte170m"), (720, "bt709")])
def test_colours_survive_and_are_tagged(tmp_path: Path, lines: int, space: str) -> None:
    picture = np.ascontiguousarray(np.repeat(colour_bars()[:1], lines, axis=0))
    sink = live(tmp_path / "out.mp4", _Clock(), crf=2)
    sink.write(Frame(picture, 0))
    sink.close()
    found = probe(tmp_path / "out.mp4")
    assert (found["color_space"], found["color_range"], found["color_primaries"]) == (space, "tv", "bt709")
    ours = decoded(tmp_path / "out.mp4")[0][lines // 2, 16::32].astype(int)
    assert np.abs(ours - BARS).max() <= 3
    if lines == 64:
        command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "out.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        theirs = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
        assert np.abs(theirs.reshape(lines, 320, 3)[lines // 2, 16::32].astype(int) - BARS).max() <= 5


def test_a_real_picture_keeps_its_detail(tmp_path: Path) -> None:
    """Planes in the right places, at the right size: 40 dB, where a shift by one pixel gives 24."""
    picture = draw(2.0, 256, 192, 1)
    sink = live(tmp_path / "out.mp4", _Clock(), crf=8)
    sink.write(Frame(picture, 0))
    sink.close()
    error = (decoded(tmp_path / "out.mp4")[0].astype(float) - picture) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 33


@pytest.mark.parametrize(("width", "height"), [(161, 91), (1, 1), (1550, 287)])
def test_odd_sizes_are_padded_to_even_ones(tmp_path: Path, width: int, height: int) -> None:
    sink = live(tmp_path / "out.mp4", _Clock())
    sink.write(Frame(flat(120, width, height), 0))
    sink.close()
    found = probe(tmp_path / "out.mp4")
    assert (found["width"], found["height"]) == (width + width % 2, height + height % 2)


def test_a_size_that_changes_is_fitted_to_the_first(tmp_path: Path) -> None:
    context, clock = Context(), _Clock()
    sink = MovieSink(tmp_path / "out.mkv", context.metrics, clock=clock)
    sink.open()
    shapes = [(64, 48, 3), (1, 1, 3), (1550, 288, 4), (4096, 2160, 1), (64, 48, 3)]
    for i, (width, height, channels) in enumerate(shapes):
        clock.ns += 34 * MS
        sink.write(Frame(flat(200, width, height, channels), i))
    sink.close()
    back = decoded(tmp_path / "out.mkv")
    assert {p.shape for p in back} == {(48, 64, 3)}
    assert context.metrics.get("sink.refitted") == 3
    assert back[2][24, 32, 0] == 200
    assert back[2][2, 32, 0] == 0, "black bars above a broad picture"


def test_targets_that_cannot_be_written_are_sentences(tmp_path: Path) -> None:
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"precious")
    blocked = tmp_path / "taken.mp4" / "out.mp4"
    for path in (taken, blocked, tmp_path / "no" / "folder.mp4", Path("/proc/livelatent.mp4")):
        sink = make_sink(f"movie:{path}", Context())
        with pytest.raises(SinkError, match=r"out|taken|folder|livelatent") as caught:
            sink.open()
        assert "\n" not in str(caught.value)
        sink.close()
    assert taken.read_bytes() == b"precious"


def test_overwrite_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    sink = make_sink(f"movie:{path}?overwrite=1", Context())
    sink.open()
    sink.write(Frame(flat(10), 0))
    sink.close()
    assert int(probe(path)["nb_read_frames"]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_full_disk_is_a_sentence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    path.symlink_to("/dev/full")
    clock = _Clock()
    sink = live(path, clock, overwrite=True)
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)

    def fill() -> None:
        for i in range(200):
            clock.ns += 34 * MS
            sink.write(Frame(noise, i))
        sink.close()

    with pytest.raises(SinkError, match="No space left"):
        fill()
    try:
        sink.close()
    except SinkError as error:
        assert "can't be" in str(error)  # noqa: PT017 (both ways are right: what matters is the type)


def test_after_an_error_recording_goes_on_in_another_file(tmp_path: Path) -> None:
    sink = live(tmp_path / "out.mkv", _Clock())
    sink.write(Frame(flat(10), 0))
    sink.close()
    sink.open()
    sink.write(Frame(flat(20), 1))
    sink.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out-2.mkv", "out.mkv"]
    assert [int(decoded(tmp_path / n)[0].mean()) for n in ("out.mkv", "out-2.mkv")] == [10, 20]


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    sink = live(tmp_path / "out.mp4", _Clock())
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_one_frame_of_a_medium_is_a_movie_too(tmp_path: Path) -> None:
    sink = make_sink(f"movie:{tmp_path}/out.mp4", EVERY)
    sink.open()
    sink.write(Frame(flat(10), 0, media_ns=0))
    sink.close()
    assert int(probe(tmp_path / "out.mp4")["nb_read_frames"]) == 1


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_killed_recorder_leaves_a_file_that_plays(tmp_path: Path, name: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bridge.context import Context\n"
        "from bridge.frame import Frame\n"
        "from bridge.sinks.movie import MovieSink\n"
        "from bridge.sources.scene import draw\n"
        "now = [0]\n"
        "sink = MovieSink(Path(sys.argv[1]), Context().metrics, clock=lambda: now[0])\n"
        "sink.open()\n"
        "for i in range(150):\n"
        "    now[0] = i * 1_000_000_000 // 30\n"
        "    sink.write(Frame(draw(i / 30, 128, 128), i))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr.decode()
    assert len(decoded(tmp_path / name)) >= 60


def test_wrong_options_are_sentences(tmp_path: Path) -> None:
    for text in ("movie", "movie:out.txt", "movie:out.mp4?codec=ffv1", "movie:a.mp4?crf=99", "movie:a.mp4?fps=0"):
        with pytest.raises(ConfigError, match="movie"):
            make_sink(text, Context())


def test_rates_are_named_by_their_usual_fractions() -> None:
    assert nearest_rate(33_366_667) == Fraction(30000, 1001)
    assert nearest_rate(33_000_000) == 30
    assert nearest_rate(40_000_000) == 25
    assert nearest_rate(100_000_000) == 10
    assert nearest_rate(41_708_333) == Fraction(24000, 1001)


def test_writing_before_open_is_an_error(tmp_path: Path) -> None:
    sink = make_sink(f"movie:{tmp_path}/a.mp4", Context())
    with pytest.raises(SinkError, match="not open"):
        sink.write(Frame(flat(0), 0))
