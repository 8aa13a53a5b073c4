"""One recording: every picture once and exactly, what can't be kept up with counted, and no fault reaches the show."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from support.records import STEP_NS, fed, header, made, noise, played, shown, until

from bridge.clock import NS
from bridge.frame import Frame, Pixels
from bridge.record import take as taking
from bridge.record.journal import Fed
from bridge.record.reel import Format, MovieReel
from bridge.record.take import Take, digest_of
from bridge.sources.images import load

pytestmark = pytest.mark.usefixtures("nothing_left")


def record(folder: Path, count: int, format: Format = "mkv", **more: object) -> Take:
    take = Take(folder, format, header(f"picture.{format}", bool(more.get("number"))), **more)  # type: ignore[arg-type]
    for n in range(count):
        offer(take, shown(n), fed(n, strength=n / 100, take=1))
    finish(take)
    return take


def offer(take: Take, picture: Frame, fed: Fed) -> None:
    assert picture.made is not None
    take.offer(picture, picture.made, fed)


def finish(take: Take) -> None:
    take.stop()
    take.join(30)
    assert take.done.is_set()


def frames_of(path: Path) -> list[tuple[float, Pixels]]:
    with av.open(str(path)) as file:
        return [(float(f.time or 0.0), f.to_ndarray(format="rgb24")) for f in file.decode(video=0)]


def test_lossless_pictures_come_back_bit_for_bit_with_their_times_and_parameters(tmp_path: Path) -> None:
    take = record(tmp_path, 12)
    assert (take.frames, take.lost, take.error) == (12, 0, "")
    frames = frames_of(tmp_path / "picture.mkv")
    for n, (at, pixels) in enumerate(frames):
        np.testing.assert_array_equal(pixels, noise(n))
        assert at == pytest.approx(n * STEP_NS / NS, abs=0.0011)
    entries = [one.entry for one in played(tmp_path)]
    assert [entry.params.strength for entry in entries] == [n / 100 for n in range(12)]
    assert [entry.line.hash for entry in entries] == [digest_of(noise(n)) for n in range(12)]
    assert not (tmp_path / "input.mkv").exists()


def test_h264_has_every_picture_once_at_its_own_time(tmp_path: Path) -> None:
    record(tmp_path, 30, "mp4")
    frames = frames_of(tmp_path / "picture.mp4")
    first = frames[0][0]  # of two pictures, for B-frames: players begin with it
    assert [at - first for at, _ in frames] == pytest.approx([n * STEP_NS / NS for n in range(30)], abs=1e-4)


def test_png_files_are_the_pictures(tmp_path: Path) -> None:
    record(tmp_path, 3, "png")
    paths = sorted((tmp_path / "picture").iterdir())
    assert [path.name for path in paths] == ["00000000.png", "00000001.png", "00000002.png"]
    for n, path in enumerate(paths):
        np.testing.assert_array_equal(load(path), noise(n))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_input_comes_back_bit_for_bit_whatever_its_channels(tmp_path: Path, channels: int) -> None:
    take = Take(tmp_path, "mp4", header("picture.mp4"), number=1)
    inputs = [noise(70 + n, 48, 80, channels) for n in range(4)]
    for n, pixels in enumerate(inputs):
        offer(take, shown(n), fed(n, pixels, take=1))
    finish(take)
    for (entry, got), pixels in zip(played(tmp_path), inputs, strict=True):
        assert entry.line.input_hash == digest_of(pixels)
        assert got is not None
        np.testing.assert_array_equal(got, pixels)


def test_an_input_that_was_painted_twice_is_kept_once(tmp_path: Path) -> None:
    take = Take(tmp_path, "mp4", header("picture.mp4"), number=1)
    pixels = noise(5, 48, 80, 3)
    for n in range(3):
        offer(take, shown(n), fed(n, pixels, take=1))
    finish(take)
    assert [one.entry.line.input for one in played(tmp_path)] == [0, 0, 0]
    assert len(frames_of(tmp_path / "input.mkv")) == 1


def test_another_size_begins_another_file_and_nothing_is_scaled(tmp_path: Path) -> None:
    take = Take(tmp_path, "mkv", header(), number=1)
    shapes = [(64, 64, 3), (64, 64, 3), (96, 128, 3), (64, 64, 3)]
    for n, shape in enumerate(shapes):
        offer(take, shown(n, noise(n, *shape)), fed(n, noise(50 + n, *shape), take=1))
    finish(take)
    parts = ["picture.mkv", "picture-2.mkv", "picture-3.mkv"]
    pictures = [pixels for part in parts for _, pixels in frames_of(tmp_path / part)]
    for n, shape in enumerate(shapes):
        np.testing.assert_array_equal(pictures[n], noise(n, *shape))
    for n, (_, got) in enumerate(played(tmp_path)):
        assert got is not None
        np.testing.assert_array_equal(got, noise(50 + n, *shapes[n]))


def test_a_recording_with_input_begins_with_the_first_frame_of_its_own(tmp_path: Path) -> None:
    take = Take(tmp_path, "mp4", header("picture.mp4"), number=2)
    for n, number in enumerate([1, 1, 2, 2]):
        offer(take, shown(n), fed(n, take=number))
    finish(take)
    assert [one.entry.line.seq for one in played(tmp_path)] == [2, 3]


def test_what_it_cannot_keep_up_with_is_counted_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, write = threading.Event(), MovieReel.write

    def slowly(self: MovieReel, pixels: Pixels, at_ns: int) -> None:
        assert gate.wait(30)
        write(self, pixels, at_ns)

    monkeypatch.setattr(MovieReel, "write", slowly)
    monkeypatch.setattr(taking, "MAX_WAITING", 4)
    take = Take(tmp_path, "mkv", header())
    offer(take, shown(0), fed(0))
    until(lambda: not take._waiting)
    for n in range(1, 10):
        offer(take, shown(n), fed(n))  # returns although nothing is written
    assert take.lost == 5
    gate.set()
    until(lambda: not take._waiting)
    offer(take, shown(10), fed(10))
    finish(take)
    assert [(one.entry.line.seq, one.entry.line.lost) for one in played(tmp_path)] == [
        *((n, 0) for n in range(5)),
        (10, 5),
    ]


def test_too_many_bytes_that_wait_are_too_many_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "MAX_WAITING_BYTES", 1000)
    take = Take(tmp_path, "mkv", header())
    offer(take, shown(0), fed(0))
    finish(take)
    assert (take.frames, take.lost) == (0, 1)


def test_a_picture_that_was_overtaken_is_told_with_its_input_and_is_in_no_file(tmp_path: Path) -> None:
    take = Take(tmp_path, "mkv", header(), number=1)
    offer(take, shown(0), fed(0, take=1))
    take.offer(None, made(), fed(1, take=1))
    offer(take, shown(2), fed(2, take=1))
    finish(take)
    lines = [one.entry.line for one in played(tmp_path)]
    assert [(line.n, line.seq, line.unseen, line.input) for line in lines] == [
        (0, 0, False, 0),
        (1, 1, True, 1),
        (1, 2, False, 2),
    ]
    assert (take.frames, len(frames_of(tmp_path / "picture.mkv"))) == (2, 2)


def test_a_full_disc_ends_it_with_a_sentence_and_leaves_what_is_there(tmp_path: Path) -> None:
    free = iter([1 << 40, 1 << 40])
    take = Take(tmp_path, "mkv", header(), room=lambda folder: next(free, 5 << 20))
    n = 0
    while not take.done.is_set():
        assert n < 5000
        take._looked_ns = 0  # look at every picture, not once a second
        offer(take, shown(n), fed(n))
        until(lambda: take.done.is_set() or not take._waiting)
        n += 1
    finish(take)
    assert take.error == "the disc is full: only 5 MB are left"
    count = len(played(tmp_path))
    assert take.frames == count == len(frames_of(tmp_path / "picture.mkv")) > 0
    offer(take, shown(n), fed(n))  # nothing happens any more
    assert take.ending


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("part", ["picture.mkv", "frames.jsonl"])
def test_a_write_that_fails_ends_it_with_a_sentence(tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if part == "picture.mkv":
        (tmp_path / part).symlink_to("/dev/full")
    take = Take(tmp_path, "mkv", header())
    if part == "frames.jsonl":
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, take._lines._file)
        os.close(full)
    for n in range(40):
        offer(take, shown(n), fed(n))
    finish(take)
    assert part in take.error
    assert "No space left" in take.error


def test_pictures_of_a_medium_have_its_times(tmp_path: Path) -> None:
    take = Take(tmp_path, "mkv", header(), own_time=True)
    for n in range(3):
        offer(take, dataclasses.replace(shown(n), media_ns=n * NS // 2), fed(n))
    finish(take)
    assert [at for at, _ in frames_of(tmp_path / "picture.mkv")] == pytest.approx([0.0, 0.5, 1.0], abs=1e-3)
