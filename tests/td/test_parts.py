"""The component's modules by themselves, against the bridge's own ends of the same wires."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bridge.errors import WireError
from bridge.frame import Frame, Stamps
from bridge.ring import RingReader, RingWriter
from bridge.wire import decode, encode
from engines import paths
from td.component import ROOT, corner

FOLDER = ROOT / "td" / "component"


@pytest.fixture
def parts() -> Iterator[Any]:
    """The modules, imported as TouchDesigner imports DATs that lie side by side."""
    sys.path.insert(0, str(FOLDER))
    loaded = {}

    class Parts:
        def __getattr__(self, name: str) -> ModuleType:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            loaded[name] = importlib.import_module(name)
            return loaded[name]

    yield Parts()
    sys.path.remove(str(FOLDER))
    for name in [name for name in sys.modules if name.startswith("ll_")]:
        del sys.modules[name]


@pytest.fixture
def name() -> Iterator[str]:
    made = f"lltd-{os.getpid()}-{time.monotonic_ns() % 10**6}"
    yield made
    (Path("/dev/shm") / made).unlink(missing_ok=True)


def test_the_bridge_reads_what_the_component_writes(parts: Any, name: str) -> None:
    writer, painter = parts.ll_ring.RingWriter(name, 256 * 256 * 4), parts.ll_pixels.Painter()
    reader = RingReader(name)
    picture = corner()
    floats = np.ones((256, 256, 4), np.float32)
    floats[..., :3] = picture[::-1] / np.float32(255)
    for number in range(7):
        painter.paint(floats, None, writer.frame(256, 256, 4))
        writer.publish(number, 1234, 99 + number)
        item = reader.read()
        assert item is not None
        assert (item.number, item.frame.seq, item.frame.media_ns, item.frame.stamps.captured) == (
            number + 1,
            number,
            99 + number,
            1234,
        )
        assert (item.frame.pixels[..., :3] == picture).all()
        assert (item.frame.pixels[..., 3] == 255).all()
    assert reader.writer_alive(5)
    reader.close()
    writer.close()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_component_reads_what_the_bridge_writes(parts: Any, name: str, channels: int) -> None:
    writer = RingWriter.create(128 * 96 * 4, name)
    reader, picture = parts.ll_ring.RingReader(name), parts.ll_pixels.Picture()
    rng = np.random.default_rng(1)
    for number in range(5):
        pixels = rng.integers(0, 256, (96, 128, channels), np.uint8)
        writer.write(Frame(pixels, number, Stamps(captured=5), 7 + number, 3))
        news = reader.read(picture) or reader.read(picture)
        assert news == (5, 7 + number, 3)
        assert (picture.front[::-1][..., : 3 if channels < 4 else 4] == pixels).all()
    assert reader.read(picture) is None
    reader.close()
    writer.close()
    writer.unlink()


def test_a_ring_that_someone_else_writes_is_left_alone_and_a_dead_ones_is_taken_over(parts: Any, name: str) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(FOLDER)!r}); import ll_ring\n"
        f"w = ll_ring.RingWriter({name!r}, 4096); w.frame(32, 32, 4); w.publish(0, 0, 0)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(Exception, match="written by another program"):
            parts.ll_ring.RingWriter(name, 4096)
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    reader = RingReader(name)
    generation = reader.read()
    assert generation is not None
    heir = parts.ll_ring.RingWriter(name, 4096)
    heir.frame(32, 32, 4)
    heir.publish(9, 0, 0)
    item = reader.read()
    assert item is not None
    assert (item.frame.seq, item.number) == (9, 2), "numbers go on"
    reader.close()
    larger = parts.ll_ring.RingWriter(name, 1 << 20)
    time.sleep(0.25)  # the name is looked up five times a second
    with pytest.raises(Exception, match=r"removed|taken over"):
        heir.frame(32, 32, 4)
    larger.close()
    heir.close()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_bridges_messages_are_decoded_and_ours_by_the_bridge(parts: Any, channels: int) -> None:
    wire = parts.ll_wire
    pixels = np.random.default_rng(2).integers(0, 256, (48, 64, channels), np.uint8)
    frame = Frame(pixels, 2**40, Stamps(captured=2**50), 2**33, 17)
    found, captured, media, version = wire.decode(encode(frame))
    assert (found == pixels).all()
    assert (captured, media, version) == (2**50, 2**33, 17)
    if channels < 4:
        smooth = np.repeat(np.arange(48, dtype=np.uint8)[:, None, None], 64, 1).repeat(channels, 2) * 4
        found, *_ = wire.decode(encode(Frame(smooth, 0), "jpeg", 95))
        assert np.abs(found.astype(int) - smooth).mean() < 3
    if channels == 4:
        head = wire.header(64, 48, "rgba8", "raw", 3, 2**50, -1)
        back = decode(head + pixels.tobytes())
        assert (back.seq, back.stamps.captured, back.media_ns) == (3, 2**50, -1)
        assert (back.pixels == pixels).all()


def test_what_is_no_message_is_refused_and_nothing_else_happens(parts: Any) -> None:
    wire, rng = parts.ll_wire, np.random.default_rng(3)
    good = bytes(encode(Frame(np.zeros((8, 8, 3), np.uint8), 0)))
    for _ in range(3000):
        bad = bytearray(good)
        for at in rng.integers(0, min(len(bad), 120), rng.integers(1, 4)):
            bad[at] = rng.integers(256)
        cut = bytes(bad[: rng.integers(0, len(bad) + 1)])
        for message in (bytes(bad), cut):
            try:
                pixels, *numbers = wire.decode(message)
            except wire.WireError:
                continue
            assert pixels.dtype == np.uint8
            assert all(type(number) is int for number in numbers)
    with pytest.raises(WireError):
        decode(b"LLF\2" + good[4:])
    with pytest.raises(wire.WireError, match="protocol 2"):
        wire.decode(b"LLF\2" + good[4:])


def test_pixels_are_clipped_rounded_and_masked(parts: Any) -> None:
    painter = parts.ll_pixels.Painter()
    values = np.array([-1.0, np.nan, 0.0, 0.5, 1.0, 7.0, np.inf, 128 / 255], np.float32)
    out = np.empty((1, 8, 4), np.uint8)
    painter.paint(np.repeat(values[None, :, None], 4, 2), None, out)
    assert out[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255, 255, 128]
    for channels, alpha in ((1, 255), (2, 64), (3, 255)):
        source = np.full((5, 4, channels), 0.25, np.float32)
        out = np.empty((5, 4, 4), np.uint8)
        painter.paint(source, None, out)
        assert (out[..., :3] == 64).all()
        assert (out[..., 3] == alpha).all()
    mask = np.zeros((4, 2, 4), np.float32)
    mask[2:, 0] = 1  # the upper left, as rows count from the bottom
    out = np.empty((8, 6, 4), np.uint8)
    painter.paint(np.ones((8, 6, 4), np.float32), mask, out)
    assert (out[:4, :3, 3] == 255).all()
    assert out[4:, :, 3].max() == 0
    assert out[:, 3:, 3].max() == 0


def test_livelatent_is_looked_for_where_install_left_it(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = parts.ll_process
    monkeypatch.setenv("LIVELATENT_HOME", str(tmp_path))
    assert process.home() == paths.home()
    monkeypatch.delenv("LIVELATENT_HOME")
    assert process.home() == paths.home(), "both sides must mean the same folder"
    monkeypatch.setenv("LIVELATENT_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="td install"):
        process.find("")
    (tmp_path / "td").mkdir()
    (tmp_path / "td/command.json").write_text(json.dumps({"argv": ["a", "b c"], "cwd": None}), "utf-8")
    assert process.find("  ") == (["a", "b c"], None)
    assert process.find('"/some where/python" -m bridge')[0] == ["/some where/python", "-m", "bridge"]
    monkeypatch.setenv("PYTHONPATH", "/touchdesigner")
    assert "PYTHONPATH" not in process.environment()


@pytest.mark.skipif(os.name == "nt", reason="the child is a shell script")
def test_a_child_ends_with_our_end_of_its_input_and_says_why_it_did_not_start(parts: Any, tmp_path: Path) -> None:
    bridge = parts.ll_process.Bridge()
    script = tmp_path / "child"
    script.write_text('#!/bin/sh\necho begun "$@"\nread line\necho over\n', "utf-8")
    script.chmod(0o755)
    bridge.start(str(script), ["--osc-port", "1"])
    bridge.poll()
    assert bridge.state == "running"
    wait(lambda: list(bridge.lines) == ["begun run --with-stdin --osc-port 1"])
    bridge.stop()
    wait(lambda: bridge.poll() or bridge.state == "off")
    wait(lambda: bridge.lines[-1] == "over")
    script.write_text("#!/bin/sh\necho the port is taken\nexit 2\n", "utf-8")
    bridge.start(str(script), [])
    wait(lambda: bridge.poll() or bridge.state == "failed")
    assert bridge.problem == "the port is taken"
    bridge.start(str(tmp_path / "nobody"), [])
    bridge.poll()
    assert bridge.state == "failed"
    assert "nobody" in bridge.problem


def wait(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
