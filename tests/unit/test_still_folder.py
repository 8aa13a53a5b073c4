"""One picture, and a folder of them: order, loops, changes while they run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.config import Config
from bridge.context import Context
from bridge.drivers import Source, make_sink, make_source
from bridge.errors import ConfigError, SinkError, SourceEnded, SourceError
from bridge.frame import Frame
from bridge.sources.folder import natural

EVERY = Context(config=Config(every_frame=True))


def put(path: Path, level: int, size: int = 16) -> Path:
    """A flat gray picture, written beside and moved into place as careful programs do."""
    ok, data = cv2.imencode(".png", np.full((size, size, 3), level, np.uint8))
    assert ok
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(data.tobytes())
    os.replace(beside, path)
    return path


def level(frame: Frame | None) -> int:
    assert frame is not None
    return int(frame.pixels[0, 0, 0])


def until(source: Source, good: Callable[[Frame], bool], within_s: float = 60.0) -> Frame:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        frame = source.read(0.1)
        if frame is not None and good(frame):
            return frame
    raise AssertionError("it did not come")


def test_natural_order() -> None:
    names = ["a10.png", "a2.png", "B1.png", "10.png", "9.png"]
    assert sorted(names, key=natural) == ["9.png", "10.png", "a2.png", "a10.png", "B1.png"]


def test_still_repeats_and_reloads(tmp_path: Path) -> None:
    path = put(tmp_path / "a.png", 10)
    context = Context()
    source = make_source(f"still:{path}?fps=200", context)
    source.open()
    frames = [source.read(1.0) for _ in range(3)]
    assert [f.seq for f in frames if f] == [0, 1, 2]
    assert [level(f) for f in frames] == [10, 10, 10]
    put(path, 99, size=24)
    assert until(source, lambda f: level(f) == 99).width == 24
    path.write_bytes(b"rubbish")
    deadline = time.monotonic() + 60
    while not context.metrics.get("source.errors") and time.monotonic() < deadline:
        assert level(source.read(1.0)) == 99
    assert context.metrics.get("source.errors") == 1
    assert "not a PNG" in source.describe()
    path.unlink()
    until(source, lambda f: "gone" in source.describe())
    assert level(source.read(1.0)) == 99, "never black"
    put(path, 50)
    until(source, lambda f: level(f) == 50)
    source.close()
    source.close()


def test_still_without_a_picture_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    for path in (tmp_path / "missing.png", tmp_path / "bad.png", tmp_path):
        source = make_source(f"still:{path}", Context())
        with pytest.raises(SourceError, match=path.name):
            source.open()
        source.close()
    with pytest.raises(SourceError, match="not open"):
        source.read(0.1)


def test_folder_in_order_and_round(tmp_path: Path) -> None:
    for n, value in ((10, 30), (2, 20), (1, 10)):
        put(tmp_path / f"p{n}.png", value)
    (tmp_path / "notes.txt").write_text("x")
    source = make_source(f"folder:{tmp_path}?fps=500", Context())
    source.open()
    assert [level(source.read(1.0)) for _ in range(7)] == [10, 20, 30, 10, 20, 30, 10]
    source.close()


def test_folder_without_loop_ends(tmp_path: Path) -> None:
    for n in range(3):
        put(tmp_path / f"{n}.png", n)
    source = make_source(f"folder:{tmp_path}?fps=25", EVERY)
    source.open()
    frames = [source.read(1.0) for _ in range(3)]
    assert [f.media_ns for f in frames if f] == [0, 40_000_000, 80_000_000]
    with pytest.raises(SourceEnded):
        source.read(1.0)


def test_folder_passes_over_broken_pictures_once_each(tmp_path: Path) -> None:
    put(tmp_path / "1.png", 10)
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    put(tmp_path / "3.png", 30)
    context = Context()
    source = make_source(f"folder:{tmp_path}?fps=500", context)
    source.open()
    assert [level(source.read(1.0)) for _ in range(6)] == [10, 30] * 3
    assert context.metrics.get("source.errors") == 1
    put(tmp_path / "2.png", 20)
    until(source, lambda f: level(f) == 20)
    source.close()


def test_folder_notices_what_comes_and_goes(tmp_path: Path) -> None:
    put(tmp_path / "1.png", 10)
    source = make_source(f"folder:{tmp_path}?fps=100", Context())
    source.open()
    until(source, lambda f: level(f) == 10)
    put(tmp_path / "2.png", 20)
    until(source, lambda f: level(f) == 20)
    (tmp_path / "1.png").unlink()
    seen = [level(until(source, lambda f: True)) for _ in range(100)]
    assert set(seen[-10:]) == {20}
    (tmp_path / "2.png").unlink()
    deadline = time.monotonic() + 60
    while source.read(0.05) is not None:
        assert time.monotonic() < deadline
    put(tmp_path / "3.png", 30)
    until(source, lambda f: level(f) == 30)
    source.close()


def test_a_picture_that_comes_in_between_does_not_set_the_order_back(tmp_path: Path) -> None:
    for n in range(1, 6):
        put(tmp_path / f"{n}.png", n)
    source = make_source(f"folder:{tmp_path}?loop=1", EVERY)
    source.open()
    assert [level(source.read(1.0)) for _ in range(3)] == [1, 2, 3]
    put(tmp_path / "0.png", 0)
    time.sleep(0.6)
    assert [level(source.read(1.0)) for _ in range(4)] == [4, 5, 0, 1]
    source.close()


def test_folders_that_cannot_be_shown_are_sentences(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 1)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "a.png", tmp_path / "empty"):
        source = make_source(f"folder:{path}", Context())
        with pytest.raises(SourceError, match=path.name):
            source.open()
        source.close()
    for text in ("folder", "still", f"folder:{tmp_path}?fps=0", f"still:{tmp_path}?loop=1"):
        with pytest.raises(ConfigError):
            make_source(text, Context())


def test_null_counts_and_keeps_the_last() -> None:
    sink = make_sink("null?fps=50", Context())
    frame = Frame(np.zeros((2, 2, 3), np.uint8), 4)
    assert sink.pace.fps == 50
    with pytest.raises(SinkError, match="before it was opened"):
        sink.write(frame)
    sink.open()
    sink.write(frame)
    sink.write(frame)
    sink.close()
    assert (sink.written, sink.fresh, sink.last) == (2, 1, frame)  # type: ignore[attr-defined]
    assert "2 frames" in sink.describe()
