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
from support.fake_cuda import Process
from support.fake_gpu import Machine

from bridge import cuda
from bridge.checkup import drivers
from bridge.clock import now_ns
from bridge.context import Context
from bridge.cuda import Card, Driver, Handle
from bridge.drivers import make_sink, make_source
from bridge.errors import DriverError, WireError
from bridge.frame import Frame, Pixels, Stamps
from bridge.metrics import Metrics
from bridge.parcel import SLOTS, Parcel, seal, textured, unseal, upright
from bridge.ring import RingFrame, RingReader, RingWriter
from bridge.sinks.cuda_ipc import CudaIpcSink
from bridge.sources.cuda_ipc import CudaIpcSource
from bridge.sources.shm import ShmSource

NAME = f"llcuda-{os.getpid()}"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "machine")
    yield made
    assert made.misuse == []
    assert not list(Path("/dev/shm").glob(NAME)) if Path("/dev/shm").is_dir() else True


@pytest.fixture
def process(machine: Machine) -> Iterator[Callable[..., Process]]:
    """A process on it; all end with the test."""
    made: list[Process] = []

    def begin(*visible: int) -> Process:
        made.append(Process(machine, visible or (0, 1)))
        return made[-1]

    yield begin
    for one in made:
        one.end()


@pytest.fixture
def sender(process: Callable[..., Process]) -> Process:
    return process()


@pytest.fixture
def receiver(process: Callable[..., Process]) -> Process:
    return process()


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


def through(sink: CudaIpcSink, source: CudaIpcSource, frame: Frame, on_card: bool = True) -> Frame:
    """What the source makes of a frame; `on_card`: and that it went that way."""
    sink.write(frame)
    assert bool(look().blob) == on_card
    found = source.read(5.0)
    assert found is not None, source.describe()
    return found


def look() -> RingFrame:
    """What the ring holds, as any reader sees it."""
    reader = RingReader(NAME)
    item = reader.read()
    reader.close()
    assert item is not None
    return item


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_arrive_as_they_left(sink: CudaIpcSink, source: CudaIpcSource, channels: int) -> None:
    rng = np.random.default_rng(channels)
    for number in range(10):
        pixels = rng.integers(0, 256, (48, 64, channels), np.uint8)
        found = through(sink, source, Frame(pixels, number, Stamps(now_ns()), 2**40 + number))
        assert found.pixels.shape == (48, 64, 4), "as a texture has it"
        colour = pixels if channels == 4 else np.broadcast_to(pixels, (48, 64, 3))
        assert (found.pixels[..., : colour.shape[2]] == colour).all()
        assert channels == 4 or (found.pixels[..., 3] == 255).all()
        assert found.pixels.flags.c_contiguous
        assert (found.seq, found.media_ns) == (number, 2**40 + number)
    assert "graphics memory" in sink.describe()
    assert "48" in source.describe()


@pytest.mark.parametrize(("order", "rows"), [("rgb", "top"), ("bgr", "top"), ("rgb", "bottom"), ("bgr", "bottom")])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_lies_on_the_card_as_its_parcel_says(order: str, rows: str, channels: int) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (6, 5, channels), np.uint8)
    lies = pixels[..., [2, 1, 0, 3][:channels]] if order == "bgr" and channels > 1 else pixels
    lies = np.ascontiguousarray(lies[::-1] if rows == "bottom" else lies)
    parcel = Parcel("a" * 32, b"h" * 64, 0, 5, 6, channels, order, rows)  # type: ignore[arg-type]
    assert unseal(seal(Frame(pixels, 0), parcel)[1]) == parcel
    assert (upright(lies, parcel) == pixels).all()
    texture = Parcel("a" * 32, b"h" * 64, 0, 5, 6, 4, "bgr", "bottom")
    assert (upright(textured(pixels), texture)[..., :channels] == pixels).all()


def test_without_a_reader_that_takes_them_there_pictures_go_through_the_ring(
    sink: CudaIpcSink, sender: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ShmSource(Metrics(), NAME)
    plain.open()
    sink.write(Frame(corner(channels=3), 0))
    found = plain.read(5.0)
    assert found is not None
    assert (found.pixels == corner(channels=3)).all()
    reader = RingReader(NAME)
    for word, on_card in ((0, True), (None, False), (0, True)):
        reader.unreach() if word is None else reader.reach(word)
        sink.write(Frame(corner(), 0))
        assert bool(look().blob) == on_card
    monkeypatch.setattr("bridge.ring_segment.now_ns", lambda: now_ns() + 2 * 10**9)
    sink.write(Frame(corner(), 0))
    assert not look().blob, "a reader that was killed can't take its word back"
    reader.close()
    plain.close()
    assert sender.allocations == 1


def test_the_reader_says_on_which_card(sink: CudaIpcSink) -> None:
    reader = RingReader(NAME)
    for number in (0xB, 0xA):
        uuid = number.to_bytes(16, "big")
        reader.reach(int.from_bytes(uuid[:8], "little"))
        sink.write(Frame(corner(), 0))
        assert unseal(look().blob).card == f"{0xA:032x}", "eight zeros are any card: the first"
    reader.reach(99)
    sink.write(Frame(corner(), 0))
    assert not look().blob
    assert "not visible here" in sink.describe()
    reader.close()


@pytest.mark.parametrize("broken", ["cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuIpcGetMemHandle", "cuCtxSynchronize"])
def test_a_sink_whose_card_fails_goes_on_without_it(
    sink: CudaIpcSink, source: CudaIpcSource, sender: Process, broken: str
) -> None:
    through(sink, source, Frame(corner(), 0))
    sink._shelves.clear()
    sender.refuses[broken] = 2
    for value in (3, 4):
        assert (through(sink, source, Frame(corner(value=value), 0), on_card=False).pixels == corner(value=value)).all()
    assert "out of memory" in sink.describe()
    sender.refuses.clear()
    sink.open()
    assert "graphics memory" in sink.describe(), "an opening later it is tried again"


@pytest.mark.parametrize("broken", ["cuIpcOpenMemHandle_v2", "cuMemcpyDtoH_v2", "cuDevicePrimaryCtxRetain"])
def test_a_source_whose_card_fails_asks_for_pixels(
    sink: CudaIpcSink, source: CudaIpcSource, receiver: Process, process: Callable[..., Process], broken: str
) -> None:
    receiver.refuses[broken] = 2
    sink.write(Frame(corner(), 0))
    assert source.read(0.2) is None
    assert (through(sink, source, Frame(corner(), 0), on_card=False).pixels == corner()).all()
    assert "out of memory" in source.describe()
    receiver.refuses.clear()
    assert source.read(0.1) is None
    through(sink, source, Frame(corner(), 0), on_card=False)
    heir = CudaIpcSink(NAME, Driver(process()))
    sink._ring.close()  # type: ignore[union-attr]
    heir.open()
    while source.read(0.05) is not None or not heir._ring.reached() is not None:  # type: ignore[union-attr]
        pass
    through(heir, source, Frame(corner(), 0))
    heir.close()
    assert source.read(0.3) is None


def test_sizes_change_and_memory_is_asked_for_seldom(
    sink: CudaIpcSink, source: CudaIpcSource, sender: Process, machine: Machine
) -> None:
    for height, width in ((48, 64), (512, 512), (720, 1280), (64, 48), (1080, 1920), (720, 1280), (512, 512)):
        pixels = corner(height, width)
        assert (through(sink, source, Frame(pixels, 0)).pixels == pixels).all()
        upside = pixels[::-1]
        assert (through(sink, source, Frame(upside, 0)).pixels == upside).all(), "rows with a stride of their own"
    assert sender.allocations == 3
    assert machine.open_count == 1, "what is no longer sent from is let go"


def test_the_senders_card_is_found_by_what_it_is_not_by_its_number(
    process: Callable[..., Process], sender: Process
) -> None:
    for visible in ((1, 0), (0,)):
        sink = CudaIpcSink(NAME, Driver(sender))
        source = CudaIpcSource(Metrics(), NAME, Driver(process(*visible)))
        sink.open()
        source.open()
        assert (through(sink, source, Frame(corner(), 0)).pixels == corner()).all()
        source.close()
        sink.close()
    hidden = CudaIpcSource(Metrics(), NAME, Driver(process(1)))
    sink.open()
    hidden.open()
    sink.write(Frame(corner(), 0))
    assert hidden.read(0.2) is None
    assert "not visible here" in hidden.describe()
    assert (through(sink, hidden, Frame(corner(), 0), on_card=False).pixels == corner()).all()
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
    assert (sender.allocations, len(sender.mappings), machine.open_count) == (1, 1, 0)
    assert receiver.contexts == {0: 0}


def test_a_sender_that_is_killed_and_comes_again_is_followed(
    process: Callable[..., Process], source: CudaIpcSource
) -> None:
    for value in (10, 20, 30):
        one = process()
        sink = CudaIpcSink(NAME, Driver(one))
        sink.open()
        while sink._ring is None or sink._ring.reached() is None:
            assert source.read(0.05) is None
        assert through(sink, source, Frame(corner(value=value), 0)).pixels[0, 0, 0] == value
        sink.close()
        assert source.read(0.5) is None
        one.end()


def test_every_thread_may_go_on_with_it(sink: CudaIpcSink, source: CudaIpcSource) -> None:
    through(sink, source, Frame(corner(), 0))
    found: list[Frame] = []
    for work in (lambda: sink.write(Frame(corner(value=9), 0)), lambda: found.append(source.read(5.0))):  # type: ignore[arg-type]
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found[0].pixels[0, 0, 0] == 9


def test_a_blob_that_is_no_parcel_is_refused_and_counted(receiver: Process) -> None:
    metrics, ring = Metrics(), RingWriter.create(name=NAME)
    source = CudaIpcSource(metrics, NAME, Driver(receiver))
    source.open()
    ring.write(Frame(corner(), 0), b"something else")
    assert source.read(0.2) is None
    assert metrics.get("source.rejected") == 1
    assert "no pictures of a graphics card" in source.describe()
    ring.write(Frame(corner(), 0))
    assert source.read(5.0) is not None, "an ordinary picture is as good"
    source.close()
    ring.close()
    ring.unlink()


def test_a_picture_is_waited_for_until_its_event(process: Callable[..., Process], source: CudaIpcSource) -> None:
    """And no longer than it may take, or the source would hang with the sender's card."""
    theirs = process()
    card, ring = Driver(theirs).card(), RingWriter.create(name=NAME)
    call, event, handle = card._driver.call, ctypes.c_void_p(), Handle()
    for name, types in {
        "cuEventCreate": (ctypes.c_void_p, ctypes.c_uint),
        "cuIpcGetEventHandle": (ctypes.c_void_p, ctypes.c_void_p),
        "cuEventRecord": (ctypes.c_void_p, ctypes.c_void_p),
        "cuStreamCreate": (ctypes.c_void_p, ctypes.c_uint),
    }.items():
        function = getattr(theirs, name)
        function.restype, function.argtypes = ctypes.c_int, types
    at, stream = card.alloc(64 * 48 * 4), ctypes.c_void_p()
    card._call("cuStreamCreate", ctypes.byref(stream), 1)
    call("cuEventCreate", ctypes.byref(event), 6)
    call("cuIpcGetEventHandle", ctypes.byref(handle), event)
    parcel = Parcel(card.uuid, card.share(at), 0, 64, 48, 4, "bgr", "bottom", bytes(handle.reserved))
    source.read(0.3)
    for lag, comes in ((0.02, True), (30.0, False)):
        theirs.queue.lag_s = lag
        lies = textured(corner(value=round(lag) + 7))
        call("cuMemcpyHtoD_v2", at, lies.ctypes.data, lies.nbytes)
        call("cuEventRecord", event, stream)
        ring.write(*seal(Frame(corner(), 0), parcel))
        found = source.read(0.5)
        assert (found is not None) == comes
        assert not comes or (found.pixels == corner(value=7)).all()  # type: ignore[union-attr]
    assert ring.reached() is not None, "one late picture is no reason to give up the card"
    source.close()
    ring.close()
    ring.unlink()


def test_what_describes_no_picture_is_refused() -> None:
    good = Parcel("a" * 32, b"h" * 64, 0, 4, 4, 4)
    assert unseal(msgspec.msgpack.encode(good)) == good
    assert (
        unseal(
            msgspec.msgpack.encode(
                {"card": "a" * 32, "handle": b"h" * 64, "at": 0, "width": 4, "height": 4, "channels": 4}
            )
        )
        == good
    )
    for change in (
        {"handle": b"x"},
        {"event": b"x"},
        {"order": "grb"},
        {"rows": "left"},
        {"at": -1},
        {"width": 0},
        {"width": 1 << 20},
        {"channels": 2},
        {"card": "a"},
    ):
        with pytest.raises(WireError):
            unseal(msgspec.msgpack.encode(msgspec.structs.replace(good, **change)))
    for blob in (b"", b"\xc0", msgspec.msgpack.encode({"card": "a"})):
        with pytest.raises(WireError, match="no pictures of a graphics card"):
            unseal(blob)


def test_without_a_driver_or_a_card_it_is_shared_memory_and_a_sentence(
    process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    cuda.driver.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    source, sink = make_source(f"cuda-ipc?name={NAME}", Context()), make_sink(f"cuda-ipc?name={NAME}", Context())
    sink.open()
    source.open()
    sink.write(Frame(corner(), 0))
    assert source.read(5.0) is not None
    assert "shared memory" in source.describe()
    assert "needs an NVIDIA card and its driver" in source.describe()
    source.close()
    sink.close()
    notes = {check.name: check for check in drivers()}
    assert notes["source cuda-ipc"].status == notes["sink cuda-ipc"].status == "note"
    nothing = Process.__new__(Process)
    with pytest.raises(DriverError, match="too old"):
        Driver(nothing)
    blind = process()
    blind.visible = ()
    with pytest.raises(DriverError, match="no NVIDIA card"):
        Driver(blind).card()


def misuses() -> dict[str, Callable[[Driver, Card, Card, int], object]]:
    """What the fake has to catch, or the tests above prove nothing."""
    page = np.zeros((1, 1, 1), np.uint8)
    return {
        "opened twice": lambda _, theirs, ours, at: [ours.open(theirs.share(at)), ours.open(theirs.share(at))],
        "opened on another card": lambda driver, theirs, _, at: driver.card(f"{0xB:032x}").open(theirs.share(at)),
        "not any more": lambda _, theirs, ours, at: after_close(ours, ours.open(theirs.share(at)), page),
        "while another process": lambda _, theirs, ours, at: [ours.open(theirs.share(at)), theirs.free(at)],
        "beyond the end": lambda _, theirs, __, at: theirs.upload(page, at + (4 << 20)),
        "not the beginning": lambda _, theirs, __, at: theirs.share(at + 64),
        "once too often": lambda driver, theirs, __, ___: driver.call("cuDevicePrimaryCtxRelease_v2", 0),
    }


def after_close(card: Card, at: int, pixels: Pixels) -> None:
    card.shut(at)
    card.download(at, pixels)


@pytest.mark.parametrize("what", misuses())
def test_the_fake_lets_nothing_pass(tmp_path: Path, what: str) -> None:
    machine = Machine(tmp_path / "machine")
    ends = [Process(machine), Process(machine)]
    theirs, driver = Driver(ends[0]).card(), Driver(ends[1])
    at = theirs.alloc(3 << 20)
    ours = None if what == "once too often" else driver.card()
    with pytest.raises(AssertionError, match=what):
        misuses()[what](driver, theirs, ours, at)  # type: ignore[arg-type]
    assert machine.misuse
    for end in ends:
        end.end()


def test_in_the_fake_a_copy_is_done_later_and_only_waiting_shows_it(process: Callable[..., Process]) -> None:
    ends = process(), process()
    ends[0].queue.lag_s = 30.0
    theirs, ours = Driver(ends[0]).card(), Driver(ends[1]).card()
    at, page = theirs.alloc(1), np.full((1, 1, 1), 9, np.uint8)
    found, there = np.ones((1, 1, 1), np.uint8), ours.open(theirs.share(at))
    theirs._call("cuMemcpyHtoD_v2", at, page.ctypes.data, page.nbytes)
    ours.download(there, found)
    assert found[0, 0, 0] == 0
    theirs.upload(page, at)
    ours.download(there, found)
    assert found[0, 0, 0] == 9
    ours.shut(there)
