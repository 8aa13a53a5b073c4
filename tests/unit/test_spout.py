"""Spout's source and sink against a strict fake of SpoutGL: orientation, sizes, who comes and goes, what is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from support import fake_spout
from support.fake_spout import Machine, Shared

from bridge import drivers
from bridge.context import Context
from bridge.drivers import Sink, Source, make_sink, make_source
from bridge.errors import DriverMissing, SinkError, SourceError
from bridge.frame import Frame, Pixels

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A Windows machine with SpoutGL, as far as the drivers can see."""
    monkeypatch.setitem(drivers.SYSTEMS, "spout", (sys.platform, "here"))
    monkeypatch.setitem(sys.modules, "SpoutGL", fake_spout.module())
    for name in ("bridge.sources.spout", "bridge.sinks.spout"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    machine = Machine()
    monkeypatch.setattr(fake_spout._Native, "machine", machine, raising=False)
    yield machine
    assert machine.misuse == []
    assert machine.contexts == 0
    for name in ("bridge.sources.spout", "bridge.sinks.spout"):
        sys.modules.pop(name, None)


@pytest.fixture
def sink(machine: Machine) -> Iterator[Sink]:
    sink = make_sink("spout:out", Context())
    sink.open()
    yield sink
    sink.close()


@pytest.fixture
def source(machine: Machine) -> Iterator[Source]:
    source = make_source("spout:DESIGN", Context())
    source.open()
    yield source
    source.close()


def shared(pixels: Pixels, frame: int = 1) -> Shared:
    return Shared(pixels.shape[1], pixels.shape[0], pixels.tobytes(), frame)


def corner(height: int, width: int, channels: int = 4) -> Pixels:
    """Black, with a red corner at the top left."""
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 255
    if channels == 4:
        pixels[..., 3] = 99
    return pixels


def test_pictures_leave_upright_as_rgba(machine: Machine, sink: Sink) -> None:
    for channels, alpha in ((4, 99), (3, 255)):
        sink.write(Frame(corner(4, 6, channels), 0))
        sent = np.frombuffer(machine.senders["out"].pixels, np.uint8).reshape(4, 6, 4)
        assert sent[0, 0].tolist() == [255, 0, 0, alpha]
        assert sent[3, 5].tolist() == [0, 0, 0, alpha]
    sink.write(Frame(np.full((4, 6, 1), 7, np.uint8), 0))
    assert machine.senders["out"].pixels[:4] == bytes((7, 7, 7, 255))


def test_a_new_size_keeps_the_sender(machine: Machine, sink: Sink) -> None:
    for size in ((4, 6), (8, 8), (2, 2)):
        sink.write(Frame(corner(*size), 0))
        assert (machine.senders["out"].height, machine.senders["out"].width) == size
    assert machine.natives == 1


def test_pictures_come_upright_and_are_ours(machine: Machine, source: Source) -> None:
    machine.senders["TouchDesigner out1"] = shared(corner(4, 6))
    frame = source.read(1.0)
    assert frame is not None
    assert np.array_equal(frame.pixels, corner(4, 6))
    assert source.read(0.02) is None
    machine.senders["TouchDesigner out1"] = shared(corner(4, 6) // 2, 2)
    later = source.read(1.0)
    assert later is not None
    assert later.seq == 1
    assert np.array_equal(frame.pixels, corner(4, 6)), "the picture before is not overwritten"


def test_sizes_change_and_senders_come_and_go(machine: Machine, source: Source) -> None:
    assert source.read(0.02) is None
    assert "waiting for a sender 'DESIGN' (there is none)" in source.describe()
    machine.senders["Resolume"] = shared(corner(2, 2))
    for size in ((4, 6), (16, 8), (3, 3)):
        machine.senders["TouchDesigner"] = shared(corner(*size), size[0])
        frame = source.read(1.0)
        assert frame is not None
        assert frame.pixels.shape[:2] == size
    del machine.senders["TouchDesigner"]
    assert source.read(0.02) is None
    assert "gone" in source.describe()
    machine.senders["TouchDesigner"] = shared(corner(5, 5))
    assert source.read(1.0) is not None
    assert machine.natives == 1


def test_a_thousand_reopenings_make_one_sender_and_one_receiver(machine: Machine) -> None:
    sink, source = make_sink("spout", Context()), make_source("spout:x", Context())
    machine.senders["x"] = shared(corner(2, 2))
    for _ in range(1000):
        sink.open()
        sink.write(Frame(corner(2, 2), 0))
        source.open()
        assert source.read(1.0) is not None
        source.close()
        sink.close()
    assert machine.natives == 2
    assert set(machine.senders) == {"x"}


def test_its_own_sender_is_not_taken(machine: Machine, sink: Sink) -> None:
    sink.write(Frame(corner(2, 2), 0))
    source = make_source("spout", Context())
    source.open()
    assert source.read(0.05) is None
    machine.senders["other"] = shared(corner(2, 2))
    assert source.read(1.0) is not None
    source.close()


def test_another_graphics_card_is_said_in_words(machine: Machine, sink: Sink, source: Source) -> None:
    machine.same_card = False
    machine.senders["TouchDesigner"] = shared(corner(4, 4))
    source.read(1.0)
    for driver in (sink, source):
        assert "graphics card" in driver.describe()


def test_no_opengl_and_failing_calls_are_sentences(machine: Machine, sink: Sink) -> None:
    machine.send_works = False
    with pytest.raises(SinkError, match="can't send"):
        sink.write(Frame(corner(2, 2), 0))
    machine.has_gl = False
    with pytest.raises(SinkError, match="OpenGL"):
        make_sink("spout:b", Context()).open()
    source = make_source("spout", Context())
    with pytest.raises(SourceError, match="OpenGL"):
        source.open()
    source.close()
    with pytest.raises(SourceError, match="not open"):
        source.read(0.1)


def test_the_list_of_senders(machine: Machine) -> None:
    from bridge.sources.spout import senders

    machine.senders["a"] = shared(corner(2, 2))
    assert senders() == ["a"]


def test_elsewhere_it_is_one_sentence() -> None:
    for name, system in (("spout", "Windows"), ("syphon", "macOS")):
        if not drivers.at_home(name):
            for make in (make_source, make_sink):
                with pytest.raises(DriverMissing, match=f"on {system} only; here take shm"):
                    make(name, Context())


def test_without_the_package_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drivers.SYSTEMS, "spout", (sys.platform, "here"))
    monkeypatch.setitem(sys.modules, "SpoutGL", None)
    monkeypatch.delitem(sys.modules, "bridge.sinks.spout", raising=False)
    with pytest.raises(DriverMissing, match=r"livelatent\[spout\]"):
        make_sink("spout", Context())
