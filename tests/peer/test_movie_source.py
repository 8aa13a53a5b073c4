"""The movie source on real files: which pictures, when, in which colours, and what it says about bad ones."""

from __future__ import annotations

import gc
import itertools
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from support.clips import BARS, colour_bars, ffmpeg, generated, needs_ffmpeg, number, numbered, raw

from bridge.clock import NS
from bridge.config import Config
from bridge.context import Context
from bridge.drivers import make_source
from bridge.errors import ConfigError, SourceEnded, SourceError
from bridge.frame import Frame
from bridge.sources import clip, movie
from bridge.sources.movie import MovieSource

pytestmark = needs_ffmpeg
FREE = Context(config=Config(every_frame=True))
MS = 1_000_000


def opened(path: Path, options: str = "", context: Context | None = None) -> MovieSource:
    source = make_source(f"movie:{path}{options}", context or Context())
    assert isinstance(source, MovieSource)
    source.open()
    return source


def rest(source: MovieSource, most: int = 10_000) -> list[Frame]:
    """Frames up to the end of the movie, or `most`."""
    frames: list[Frame] = []
    deadline = time.monotonic() + 60
    try:
        while len(frames) < most and time.monotonic() < deadline:
            frame = source.read(0.5)
            if frame is not None:
                frames.append(frame)
    except SourceEnded:
        pass
    finally:
        source.close()
    return frames


@pytest.mark.parametrize(
    ("name", "source", "count", "size"),
    [
        ("a.mp4", "testsrc2=s=160x90:r=30:d=1", 30, (160, 90)),
        ("b.mkv", "mandelbrot=s=96x96:r=25", 25, (96, 96)),
        ("c.webm", "smptebars=s=128x72:r=24:d=1", 24, (128, 72)),
    ],
)
def test_every_picture_in_order_with_its_time(
    tmp_path: Path, name: str, source: str, count: int, size: tuple[int, int]
) -> None:
    path = generated(tmp_path / name, source, "-frames:v", str(count), "-pix_fmt", "yuv420p")
    frames = rest(opened(path, context=FREE))
    assert len(frames) == count
    assert {(f.width, f.height, f.channels) for f in frames} == {(*size, 3)}
    assert [f.seq for f in frames] == list(range(count))
    rate = float(source.split("r=")[1].split(":")[0])
    for i, frame in enumerate(frames):
        assert abs(frame.media_ns - i * 1e9 / rate) < 1.1 * MS


def test_loop_goes_on_counting_media_time(tmp_path: Path) -> None:
    path = numbered(tmp_path / "n.mp4", 10)
    frames = rest(opened(path, "?loop=1&pace=max"), most=25)
    assert [number(f.pixels) for f in frames] == [i % 10 for i in range(25)]
    assert [f.media_ns for f in frames] == [i * 50 * MS for i in range(25)]


def test_start_and_seek_are_exact_to_the_picture(tmp_path: Path) -> None:
    path = numbered(tmp_path / "n.mp4", 30)
    source = opened(path, "?start=0.55&pace=max")
    first = source.read(1.0)
    assert first is not None
    assert (number(first.pixels), first.media_ns) == (11, 550 * MS)
    for second, wanted in ((1.4, 28), (0.0, 0), (0.999, 19), (0.31, 6)):
        source.seek(second)
        frame = source.read(1.0)
        assert frame is not None
        assert number(frame.pixels) == wanted
    assert number(rest(source, most=1)[0].pixels) == 7
    looped = rest(opened(path, "?start=1.3&pace=max"), most=6)
    assert [number(f.pixels) for f in looped] == [26, 27, 28, 29, 26, 27]
    assert [f.media_ns // MS for f in looped] == [1300, 1350, 1400, 1450, 1500, 1550]


@pytest.mark.parametrize("suffix", ["ts", "avi", "mov", "mkv"])
def test_seek_and_loop_in_other_containers(tmp_path: Path, suffix: str) -> None:
    own = ("-c:v", "mpeg4", "-q:v", "1", "-g", "7") if suffix == "avi" else ()
    source = opened(numbered(tmp_path / f"n.{suffix}", 20, "20", *own), "?pace=max")
    source.seek(0.5)
    assert [number(f.pixels) for f in rest(source, most=12)] == [*range(10, 20), 0, 1]


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    regular = numbered(tmp_path / "n.mkv", 12, "30", "-c:v", "ffv1")
    path = tmp_path / "vfr.mkv"
    ffmpeg(
        "-i",
        regular,
        "-vf",
        "settb=1/1000,setpts='if(lt(N,6),N*40,240+(N-6)*100)'",
        "-vsync",
        "passthrough",
        "-enc_time_base",
        "1/1000",
        "-c:v",
        "ffv1",
        path,
    )
    frames = rest(opened(path, context=FREE))
    assert [f.media_ns // MS for f in frames] == [0, 40, 80, 120, 160, 200, 240, 340, 440, 540, 640, 740]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The movie's time is ours: it sleeps as long as it asks to, decodes in none, and `at(seconds)` lets some pass."""
    ns = [10**12]

    def passes(seconds: float) -> None:
        ns[0] += round(seconds * NS)

    monkeypatch.setattr(movie, "now_ns", lambda: ns[0])
    monkeypatch.setattr(movie, "time", SimpleNamespace(sleep=passes))
    return passes


def test_clock_pace_shows_pictures_when_they_are_due(tmp_path: Path, at: Callable[[float], None]) -> None:
    """Neither faster nor, over the loop's seam, with a gap: each stamp is its media time."""
    source = opened(numbered(tmp_path / "n.mp4", 10))
    frames = rest(source, most=25)
    origin = frames[0].stamps.captured - frames[0].media_ns
    late = [f.stamps.captured - f.media_ns - origin for f in frames]
    assert max(abs(ns) for ns in late) < 1000
    assert [f.media_ns for f in frames] == [n * 50 * MS for n in range(25)]


def test_a_reader_that_stalls_gets_the_picture_of_now(tmp_path: Path, at: Callable[[float], None]) -> None:
    context = Context()
    source = opened(numbered(tmp_path / "n.mp4", 40), context=context)
    first = source.read(1.0)
    at(0.75)
    rest_ = [source.read(1.0) for _ in range(3)]
    source.close()
    assert first is not None
    newest = rest_[-1]
    assert newest is not None
    behind = newest.stamps.captured - first.stamps.captured - (newest.media_ns - first.media_ns)
    assert behind <= 50 * MS, "at most one frame behind the clock"
    assert context.metrics.get("source.dropped") >= 10


def test_read_returns_in_time_when_nothing_is_due(tmp_path: Path) -> None:
    source = opened(numbered(tmp_path / "slow.mkv", 3, "1/30", "-c:v", "ffv1"))
    assert source.read(0.1) is not None
    before = time.monotonic()
    assert source.read(0.05) is None
    assert time.monotonic() - before < 15, "the next one is due in thirty"
    source.close()


@pytest.mark.parametrize(
    ("name", "matrix", "levels", "pixels", "tagged", "codec"),
    [
        ("709.mkv", "bt709", "tv", "yuv420p", True, "ffv1"),
        ("709full.mkv", "bt709", "pc", "yuv420p", True, "ffv1"),
        ("601.mkv", "bt601", "tv", "yuv420p", True, "ffv1"),
        ("untagged.mkv", "bt601", "tv", "yuv420p", False, "ffv1"),
        ("ten.mkv", "bt709", "tv", "yuv444p10le", True, "ffv1"),
        ("avc.mp4", "bt709", "tv", "yuv420p", True, "libx264"),
        ("prores.mov", "bt709", "tv", "yuv422p10le", True, "prores_ks"),
    ],
)
def test_colours(tmp_path: Path, name: str, matrix: str, levels: str, pixels: str, tagged: bool, codec: str) -> None:
    space = ("bt709" if matrix == "bt709" else "smpte170m") if tagged else "unknown"
    tags = f"setparams=colorspace={space}:range={levels if tagged else 'unknown'}"
    scale = f"scale=out_color_matrix={matrix}:out_range={levels}:flags=accurate_rnd+full_chroma_int,format={pixels}"
    quality = ("-crf", "4") if codec == "libx264" else ()
    path = raw(
        tmp_path / name, colour_bars()[None].repeat(2, 0), "10", "-vf", f"{scale},{tags}", "-c:v", codec, *quality
    )
    frame = rest(opened(path, context=FREE))[0]
    seen = frame.pixels[32, 16::32].astype(int)
    assert np.abs(seen - BARS).max() <= 2


def test_untagged_hd_is_bt709(tmp_path: Path) -> None:
    bars = np.repeat(np.repeat(BARS[None, :8], 160, axis=1), 720, axis=0)
    scale = "scale=out_color_matrix=bt709:flags=accurate_rnd,format=yuv420p,setparams=colorspace=unknown:range=unknown"
    path = raw(tmp_path / "hd.mkv", bars[None], "10", "-vf", scale, "-c:v", "ffv1")
    assert np.abs(rest(opened(path, context=FREE))[0].pixels[360, 80::160].astype(int) - BARS[:8]).max() <= 2


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mov", ("prores_ks", "yuva444p10le")), ("a.webm", ("libvpx-vp9", "yuva420p"))]
)
def test_alpha(tmp_path: Path, name: str, codec: tuple[str, str]) -> None:
    path = generated(
        tmp_path / name,
        "color=red:s=64x64:r=10:d=0.3,format=yuva444p,geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='if(lt(X,32),255,0)'",
        "-c:v",
        codec[0],
        "-pix_fmt",
        codec[1],
    )
    frames = rest(opened(path, context=FREE))
    assert len(frames) == 3
    assert frames[0].channels == 4
    assert frames[0].pixels[32, 8, 3] > 250
    assert frames[0].pixels[32, 56, 3] < 5
    assert frames[0].pixels[32, 8, 0] > 230


def test_rotation_of_a_phone_is_undone(tmp_path: Path) -> None:
    plain = generated(
        tmp_path / "p.mp4", "testsrc2=s=160x90:r=10:d=0.3", "-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv420p"
    )
    turned, path = tmp_path / "t.mp4", tmp_path / "phone.mp4"
    ffmpeg("-i", plain, "-vf", "transpose=1", "-c:v", "libx264", "-crf", "4", turned)
    ffmpeg("-i", turned, "-c", "copy", "-metadata:s:v:0", "rotate=90", path)
    upright, frame = (rest(opened(p, context=FREE))[0] for p in (plain, path))
    assert (frame.width, frame.height) == (160, 90)
    assert np.abs(frame.pixels.astype(int) - upright.pixels).mean() < 4


def test_odd_sizes_and_pixels_that_are_not_square(tmp_path: Path) -> None:
    odd = generated(
        tmp_path / "odd.mkv", "mandelbrot=s=161x91:r=10", "-frames:v", "2", "-c:v", "ffv1", "-pix_fmt", "yuv420p"
    )
    assert {(f.width, f.height) for f in rest(opened(odd, context=FREE))} == {(161, 91)}
    wide = generated(tmp_path / "wide.mkv", "testsrc2=s=160x120:r=10:d=0.2,setsar=4/3", "-c:v", "ffv1")
    assert {(f.width, f.height) for f in rest(opened(wide, context=FREE))} == {(213, 120)}


def test_the_largest_track_is_taken_and_sound_ignored(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    sources = ("testsrc2=s=64x64:r=10:d=0.5", "testsrc2=s=128x64:r=10:d=0.5")
    inputs = [x for s in sources for x in ("-f", "lavfi", "-i", s)]
    ffmpeg(*inputs, "-f", "lavfi", "-i", "sine=d=0.5", "-map", "0", "-map", "1", "-map", "2", "-c:v", "ffv1", path)
    frames = rest(opened(path, context=FREE))
    assert (len(frames), frames[0].width) == (5, 128)


def test_bad_files_are_sentences(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is not a movie\n" * 50)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    sound = generated(tmp_path / "sound.m4a", "sine=d=0.2", "-c:a", "aac")
    whole = numbered(tmp_path / "whole.mp4", 20).read_bytes()
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(whole[: len(whole) * 2 // 3])
    for path in (tmp_path / "missing.mp4", tmp_path, text, empty, sound, headless):
        source = make_source(f"movie:{path}", Context())
        with pytest.raises(SourceError, match=r"\w") as caught:
            source.open()
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
        source.close()
        source.close()


def test_a_playlist_cannot_make_us_open_the_network_or_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "OPEN_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        playlist = tmp_path / "list.m3u8"
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{server.getsockname()[1]}/a.ts\n"
        )
        opening = threading.Thread(target=_try_to_open, args=(playlist,), daemon=True)
        opening.start()
        with pytest.raises(TimeoutError):
            server.accept()
        opening.join(60)
        assert not opening.is_alive()


def _try_to_open(path: Path) -> None:
    source = make_source(f"movie:{path}", Context())
    with pytest.raises(SourceError, match=path.name):
        source.open()


def test_a_start_past_the_end_is_a_sentence(tmp_path: Path) -> None:
    source = make_source(f"movie:{numbered(tmp_path / 'n.mp4', 5)}?start=9", Context())
    with pytest.raises(SourceError, match="after second 9"):
        source.open()


def test_what_a_truncated_movie_has_is_played_round_and_round(tmp_path: Path) -> None:
    encoding = ("-c:v", "libx264", "-g", "5", "-crf", "10", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8)
    whole = raw(tmp_path / "w.mp4", frames, "20", *encoding).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    once = rest(opened(path, context=FREE))
    assert 8 <= len(once) < 20
    looped = rest(opened(path, "?pace=max"), most=len(once) * 2 + 1)
    assert len(looped) == len(once) * 2 + 1
    assert all(b.media_ns > a.media_ns for a, b in itertools.pairwise(looped))


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = generated(
        tmp_path / "d.ts", "testsrc2=s=160x90:r=20:d=2", "-c:v", "libx264", "-g", "5", "-pix_fmt", "yuv420p"
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = np.random.default_rng(1).integers(0, 255, 6000, np.uint8).tobytes()
    path.write_bytes(data)
    frames = rest(opened(path, context=FREE))
    assert 20 <= len(frames) <= 40


def test_a_file_that_shrinks_while_it_plays_ends_or_loops(tmp_path: Path) -> None:
    path = numbered(tmp_path / "n.mkv", 50, "50", "-c:v", "ffv1")
    source = opened(path, "?pace=max")
    assert source.read(1.0) is not None
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    frames = rest(source, most=60)
    assert 10 < len(frames) <= 60


def test_names_with_colons_spaces_and_percent_signs(tmp_path: Path) -> None:
    folder = tmp_path / "take 1: final %03d"
    folder.mkdir()
    path = numbered(tmp_path / "n.mkv", 3, "10", "-c:v", "ffv1").rename(folder / "http: a%02d.mkv")
    source = MovieSource(path, Context().metrics, loop=False, free=True)
    source.open()
    assert len(rest(source)) == 3


def test_wrong_options(tmp_path: Path) -> None:
    for options in ("?start=-1", "?start=nan", "?pace=fast", "?loop=maybe", "?speed=2"):
        with pytest.raises(ConfigError, match="movie"):
            make_source(f"movie:{tmp_path}/a.mp4{options}", Context())
    with pytest.raises(ConfigError, match="movie:PATH"):
        make_source("movie", Context())


def test_reading_before_open_and_after_close_is_an_error(tmp_path: Path) -> None:
    source = make_source(f"movie:{numbered(tmp_path / 'n.mp4', 3)}", Context())
    with pytest.raises(SourceError, match="not open"):
        source.read(0.1)
    source.open()
    assert source.read(0.1) is not None
    source.close()
    with pytest.raises(SourceError, match="not open"):
        source.read(0.1)


def test_two_thousand_frames_in_loops_leave_memory_alone(tmp_path: Path) -> None:
    source = opened(generated(tmp_path / "m.mp4", "testsrc2=s=320x240:r=50:d=1"), "?pace=max")
    process = psutil.Process()

    def grown(frames: int) -> int:
        for _ in range(frames):
            assert source.read(1.0) is not None
        gc.collect()
        return process.memory_info().rss

    before = grown(400)
    after = grown(2000)
    source.close()
    assert after - before < 12 << 20, "a single lost picture in ten would be 46 MiB"
