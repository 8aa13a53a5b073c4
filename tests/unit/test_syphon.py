"""Syphon's source and sink against a strict fake of syphon-python: turned over once, sizes, who comes and goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from support import fake_syphon
from support.fake_syphon import BGRA8, RGBA16, Machine, SyphonMetalServer, Texture

from bridge import drivers
from bridge.context import Context
from bridge.drivers import Sink, Source, make_sink, make_source
from bridge.errors import ConfigError, SinkError, SourceError
from bridge.frame import Frame, Pixels
from bridge.metrics import Metrics

pytestmark = pytest.mark.usefixtures("nothing_left")
OURS = ("bridge.sources.syphon", "bridge.sinks.syphon")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A Mac with syphon-python, as far as the drivers can see."""
    monkeypatch.setitem(drivers.SYSTEMS, "syphon", (sys.platform, "here"))
    for name, module in fake_syphon.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in OURS:
        sys.modules.pop(name, None)
    machine = Machine()
    for thing in (Texture, SyphonMetalServer, fake_syphon.SyphonMetalClient, fake_syphon.SyphonServerDirectory):
        monkeypatch.setattr(thing, "machine", machine, raising=False)
    yield machine
    assert machine.misuse == []
    assert machine.clients == 0
    for name in OURS:
        sys.modules.pop(name, None)


@pytest.fixture
def sink(machine: Machine) -> Iterator[Sink]:
    sink = make_sink("syphon:out", Context())
    sink.open()
    yield sink
    sink.close()


@pytest.fixture
def source(machine: Machine) -> Iterator[Source]:
    source = make_source("syphon:DESIGN", Context())
    source.open()
    yield source
    source.close()


def corner(height: int, width: int, channels: int = 4) -> Pixels:
    """Black, with a red corner at the top left."""
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 255
    return pixels


def publish(server: SyphonMetalServer, pixels: Pixels, kind: int = fake_syphon.RGBA8) -> None:
    """As a program of the Mac does: the bottom row first."""
    texture = Texture(pixels.shape[1], pixels.shape[0], kind)
    texture.data = pixels[::-1].tobytes()
    server.publish_frame_texture(texture)


def sent(machine: Machine) -> Pixels:
    (server,) = machine.servers.values()
    texture = server.texture
    assert texture is not None
    return np.frombuffer(texture.data, np.uint8).reshape(texture.height(), texture.width(), 4)


def test_pictures_leave_with_the_bottom_row_first(machine: Machine, sink: Sink) -> None:
    for channels in (4, 3):
        sink.write(Frame(corner(4, 6, channels), 0))
        assert sent(machine)[3, 0, :3].tolist() == [255, 0, 0]
        assert not sent(machine)[0].any() or channels == 3
    straight = make_sink("syphon?flip=0", Context())
    sink.close()
    straight.open()
    straight.write(Frame(corner(4, 6), 0))
    assert sent(machine)[0, 0, 0] == 255
    straight.close()


def test_a_texture_is_made_for_a_new_size_only(machine: Machine, sink: Sink) -> None:
    for size in ((4, 6), (4, 6), (8, 2), (8, 2), (4, 6)):
        sink.write(Frame(corner(*size), 0))
        assert sent(machine).shape[:2] == size
    assert machine.textures == 3


@pytest.mark.parametrize("kind", [fake_syphon.RGBA8, BGRA8])
def test_pictures_come_upright_in_their_colours(machine: Machine, source: Source, kind: int) -> None:
    pixels = corner(4, 6)
    server = SyphonMetalServer("out1", "TouchDesigner")
    publish(server, pixels[..., [2, 1, 0, 3]] if kind == BGRA8 else pixels, kind)
    frame = source.read(1.0)
    assert frame is not None
    assert np.array_equal(frame.pixels, pixels)
    assert frame.pixels.flags.c_contiguous
    assert source.read(0.02) is None
    publish(server, corner(8, 8)[..., [2, 1, 0, 3]] if kind == BGRA8 else corner(8, 8), kind)
    later = source.read(1.0)
    assert later is not None
    assert later.pixels.shape == (8, 8, 4)
    assert later.pixels[0, 0].tolist() == [255, 0, 0, 0]
    assert later.seq == 1


def test_servers_come_and_go(machine: Machine, source: Source) -> None:
    assert source.read(0.02) is None
    assert "waiting for a sender 'DESIGN' (there is none)" in source.describe()
    SyphonMetalServer("x", "Resolume")
    server = SyphonMetalServer("", "TouchDesigner")
    publish(server, corner(4, 4))
    assert source.read(1.0) is not None
    server.stop()
    assert source.read(0.02) is None
    assert "TouchDesigner is gone" in source.describe()
    publish(SyphonMetalServer("", "TouchDesigner"), corner(4, 4))
    assert source.read(1.0) is not None


def test_sixteen_bit_pictures_are_counted_and_passed_over(machine: Machine) -> None:
    context = Context(metrics=Metrics())
    source = make_source("syphon", context)
    source.open()
    server = SyphonMetalServer("", "TouchDesigner")
    publish(server, corner(4, 4), RGBA16)
    assert source.read(0.3) is None
    assert context.metrics.get("source.rejected") == 1
    assert "8 bits" in source.describe()
    publish(server, corner(4, 4))
    assert source.read(1.0) is not None
    source.close()


def test_a_thousand_reopenings_leave_nothing(machine: Machine) -> None:
    sink, source = make_sink("syphon", Context()), make_source("syphon:design", Context())
    publish(SyphonMetalServer("", "TouchDesigner"), corner(2, 2))
    for _ in range(1000):
        sink.open()
        sink.write(Frame(corner(2, 2), 0))
        source.open()
        assert source.read(1.0) is not None
        source.close()
        sink.close()
    assert (len(machine.servers), machine.clients, machine.directories) == (1, 0, 0)


def test_its_own_server_is_not_taken(machine: Machine, sink: Sink) -> None:
    sink.write(Frame(corner(2, 2), 0))
    source = make_source("syphon", Context())
    source.open()
    assert source.read(0.05) is None
    source.close()


def test_the_main_thread_listens_once_however_many_drivers_there_are(machine: Machine) -> None:
    context = Context()
    make_sink("syphon:a", context)
    make_source("syphon", context)
    assert len(context.main_tasks) == 1
    server = SyphonMetalServer("late", "TouchDesigner")
    assert not machine.known
    context.main_tasks[0]()
    assert list(machine.known.values()) == [server]


def test_no_metal_and_closed_drivers_are_sentences(machine: Machine) -> None:
    machine.has_metal = False
    with pytest.raises(SinkError, match="Metal"):
        make_sink("syphon", Context()).open()
    with pytest.raises(SinkError, match="not open"):
        make_sink("syphon", Context()).write(Frame(corner(2, 2), 0))
    with pytest.raises(SourceError, match="not open"):
        make_source("syphon", Context()).read(0.1)
    with pytest.raises(ConfigError, match="flip"):
        make_sink("syphon?flip=maybe", Context())
