"""Pictures that stay on the graphics card, between two processes of a strict fake of NVIDIA's driver."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.fake_cuda import Machine, Process

from bridge import cuda
from bridge.checkup import drivers
from bridge.clock import now_ns
from bridge.context import Context
from bridge.cuda import Card, Driver
from bridge.drivers import make_source
from bridge.errors import DriverError, DriverMissing, SinkError, SourceError, WireError
from bridge.frame import Frame, Pixels, Stamps
from bridge.metrics import Metrics
from bridge.parcel import SLOTS, Parcel, unseal
from bridge.sinks.cuda_ipc import CudaIpcSink
from bridge.sinks.shm import ShmSink
from bridge.sources.cuda_ipc import CudaIpcSource

NAME = f"llcuda-{os.getpid()}"


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    assert made.misuse == []
    assert not list(Path("/dev/shm").glob(NAME)) if Path("/dev/shm").is_dir() else True


@pytest.fixture
def sender(machine: Machine) -> Process:
    return Process(machine)


@pytest.fixture
def receiver(machine: Machine) -> Process:
    return Process(machine)


@pytest.fixture
def sink(sender: Process) -> Iterator[CudaIpcSink]:
    made = CudaIpcSink(NAME, Driver(sender))
    made.open()
    yield made
    made.close()


@pytest.fixture
def source(receiver: Process) -> Iterator[CudaIpcSource]:
    made = CudaIpcSource(Metrics(), NAME, Driver(receiver))
    made.open()
    yield made
    made.close()
    assert set(receiver.contexts.values()) <= {0}, "a context is left"


def corner(height: int = 48, width: int = 64, channels: int = 4, value: int = 255) -> Pixels:
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[: height // 2, : width // 2, 0] = value
    return pixels


def through(sink: CudaIpcSink, source: CudaIpcSource, frame: Frame) -> Frame:
    sink.write(frame)
    found = source.read(5.0)
    assert found is not None, source.describe()
    return found


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_arrive_as_they_left(sink: CudaIpcSink, source: CudaIpcSource, channels: int) -> None:
    for number in range(10):
        sent = Frame(corner(channels=channels, value=100 + number), number, Stamps(now_ns()), 2**40 + number)
        found = through(sink, source, sent)
        assert (found.pixels == sent.pixels).all()
        assert found.pixels.flags.c_contiguous
        assert (found.seq, found.media_ns) == (number, 2**40 + number)
    assert "graphics memory" in sink.describe()
    assert "48" in source.describe()


def test_sizes_change_and_memory_is_asked_for_seldom(
    sink: CudaIpcSink, source: CudaIpcSource, sender: Process, machine: Machine
) -> None:
    for height, width in ((48, 64), (512, 512), (720, 1280), (64, 48), (1080, 1920), (720, 1280), (512, 512)):
        pixels = corner(height, width)
        assert (through(sink, source, Frame(pixels, 0)).pixels == pixels).all()
        upside = pixels[::-1]
        assert (through(sink, source, Frame(upside, 0)).pixels == upside).all(), "rows with a stride of their own"
    assert sender.allocations == 3
    opened = [a for p, a in machine.mappings.values() if a.owner is not p]
    assert len(opened) == 1, "what is no longer sent from is let go"


def test_the_senders_card_is_found_by_what_it_is_not_by_its_number(machine: Machine, sender: Process) -> None:
    for visible in ((1, 0), (0,)):
        sink = CudaIpcSink(NAME, Driver(sender))
        source = CudaIpcSource(Metrics(), NAME, Driver(Process(machine, visible)))
        sink.open()
        source.open()
        assert (through(sink, source, Frame(corner(), 0)).pixels == corner()).all()
        source.close()
        sink.close()
    hidden = CudaIpcSource(Metrics(), NAME, Driver(Process(machine, (1,))))
    sink.open()
    hidden.open()
    sink.write(Frame(corner(), 0))
    with pytest.raises(SourceError, match="not visible here"):
        hidden.read(5.0)
    hidden.close()
    sink.close()


def test_a_picture_that_is_overtaken_is_left_for_the_newest(
    sink: CudaIpcSink, source: CudaIpcSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = Card.download
    more = [SLOTS - 1]

    def slow(card: Card, at: int, pixels: Pixels) -> None:
        download(card, at, pixels)
        for number in range(more.pop() if more else 0):
            sink.write(Frame(corner(value=200 + number), 0))

    monkeypatch.setattr(Card, "download", slow)
    found = through(sink, source, Frame(corner(value=1), 0))
    assert found.pixels[0, 0, 0] == 200 + SLOTS - 2
    more[:] = [SLOTS - 2]
    assert through(sink, source, Frame(corner(value=1), 0)).pixels[0, 0, 0] == 1, "so many newer ones do no harm"


def test_a_thousand_reopenings_leave_nothing(machine: Machine, sender: Process, receiver: Process) -> None:
    sink, source = CudaIpcSink(NAME, Driver(sender)), CudaIpcSource(Metrics(), NAME, Driver(receiver))
    for number in range(1000):
        sink.open()
        source.open()
        assert through(sink, source, Frame(corner(8, 8, value=number % 256), 0)).pixels[0, 0, 0] == number % 256
        source.close()
        sink.close()
    assert (sender.allocations, len(machine.mappings)) == (1, 1)
    assert receiver.contexts == {0: 0}


def test_a_sender_that_is_killed_and_comes_again_is_followed(machine: Machine, source: CudaIpcSource) -> None:
    for value in (10, 20, 30):
        process = Process(machine)
        sink = CudaIpcSink(NAME, Driver(process))
        sink.open()
        assert through(sink, source, Frame(corner(value=value), 0)).pixels[0, 0, 0] == value
        sink.close()
        assert source.read(0.5) is None
        process.end()


def test_every_thread_may_go_on_with_it(sink: CudaIpcSink, source: CudaIpcSource) -> None:
    through(sink, source, Frame(corner(), 0))
    found: list[Frame] = []
    for work in (lambda: sink.write(Frame(corner(value=9), 0)), lambda: found.append(source.read(5.0))):  # type: ignore[arg-type]
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found[0].pixels[0, 0, 0] == 9


def test_a_ring_of_ordinary_pictures_is_refused_and_counted(receiver: Process) -> None:
    metrics, plain = Metrics(), ShmSink(NAME)
    source = CudaIpcSource(metrics, NAME, Driver(receiver))
    plain.open()
    source.open()
    plain.write(Frame(corner(), 0))
    assert source.read(0.2) is None
    assert metrics.get("source.rejected") == 1
    assert "no pictures of a graphics card" in source.describe()
    source.close()
    plain.close()


def test_what_describes_no_picture_is_refused() -> None:
    good = Parcel("a" * 32, b"h" * 64, 0, 4, 4, 4)
    assert unseal(msgspec.msgpack.encode(good)) == good
    for change in ({"handle": b"x"}, {"at": -1}, {"width": 0}, {"width": 1 << 20}, {"channels": 2}, {"card": "a"}):
        with pytest.raises(WireError):
            unseal(msgspec.msgpack.encode(msgspec.structs.replace(good, **change)))
    for blob in (b"", b"\xc0", msgspec.msgpack.encode({"card": "a"})):
        with pytest.raises(WireError, match="no pictures of a graphics card"):
            unseal(blob)


def test_without_a_driver_or_a_card_it_is_one_sentence(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    cuda.driver.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DriverMissing, match="needs an NVIDIA card and its driver"):
        make_source("cuda-ipc", Context())
    notes = {check.name: check for check in drivers()}
    assert notes["source cuda-ipc"].status == notes["sink cuda-ipc"].status == "note"
    with pytest.raises(DriverError, match="no NVIDIA card"):
        Driver(Process(machine, ())).card()
    old = Process(machine)
    del old.cuIpcGetMemHandle  # type: ignore[attr-defined]
    with pytest.raises(DriverError, match="too old"):
        Driver(old)
    sink = CudaIpcSink(NAME, Driver(Process(machine, ())))
    sink.open()
    with pytest.raises(SinkError, match="no NVIDIA card"):
        sink.write(Frame(corner(), 0))
    sink.close()


def misuses() -> dict[str, Callable[[Driver, Card, Card, int], object]]:
    """What the fake has to catch, or the tests above prove nothing."""
    page = np.zeros((1, 1, 1), np.uint8)
    return {
        "opened twice": lambda _, theirs, ours, at: [ours.open(theirs.share(at)), ours.open(last(theirs))],
        "opened on another card": lambda driver, theirs, _, at: driver.card(f"{0xB:032x}").open(theirs.share(at)),
        "not any more": lambda _, theirs, ours, at: after_close(ours, ours.open(theirs.share(at)), page),
        "while another process": lambda _, theirs, ours, at: [ours.open(theirs.share(at)), theirs.free(at)],
        "before the upload": lambda _, theirs, ours, at: unsynchronised(theirs, ours, at, page),
        "beyond the end": lambda _, theirs, __, at: theirs.upload(page, at + (4 << 20)),
        "not the beginning": lambda _, theirs, __, at: theirs.share(at + 64),
        "once too often": lambda driver, theirs, __, ___: driver.call("cuDevicePrimaryCtxRelease_v2", 0),
    }


def last(card: Card) -> bytes:
    process = card._driver._dll
    handles: list[bytes] = list(process.machine.handles)
    return handles[-1]


def after_close(card: Card, at: int, pixels: Pixels) -> None:
    card.shut(at)
    card.download(at, pixels)


def unsynchronised(theirs: Card, ours: Card, at: int, pixels: Pixels) -> None:
    theirs._call("cuMemcpyHtoD_v2", at, pixels.ctypes.data, pixels.nbytes)
    ours.download(ours.open(theirs.share(at)), pixels)


@pytest.mark.parametrize("what", misuses())
def test_the_fake_lets_nothing_pass(what: str) -> None:
    machine = Machine()
    theirs, driver = Driver(Process(machine)).card(), Driver(Process(machine))
    at = theirs.alloc(3 << 20)
    ours = None if what == "once too often" else driver.card()
    with pytest.raises(AssertionError, match=what):
        misuses()[what](driver, theirs, ours, at)  # type: ignore[arg-type]
    assert machine.misuse
