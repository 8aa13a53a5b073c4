"""A card takes frames out of ring A's slots and puts pictures into ring B's by itself. Nothing torn is painted, nothing
is published before it is whole, and no page is unmapped that the card may still reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from bridge.errors import WireError
from bridge.frame import Frame, Stamps
from bridge.lent import LentRing
from bridge.ring import RingReader, RingWriter
from bridge.worker import Worker
from engines.base import Build
from engines.compiled import CompiledEngine
from engines.eager import EagerEngine
from engines.emulated import EmulatedMachine
from engines.emulated_rules import BrokenRule
from pipelines.params import Params, pack
from pipelines.pins import PAGE, Pins
from pipelines.spec import Overtaken
from pipelines.stream import DiffusionStream

SIDE = 64
BUILD = Build(SIDE, SIDE, device="cpu", dtype="fp32")


def picture(seed: int, shape: tuple[int, ...] = (80, 100, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def framed(pixels: np.ndarray, seq: int = 0) -> Frame:
    return Frame(pixels, seq, Stamps(1, 1))


@pytest.fixture
def ring() -> Iterator[RingWriter]:
    made = RingWriter.create(1 << 20)
    yield made
    made.close()
    made.unlink()


# Slots that other hands fill


def test_nobody_sees_a_picture_before_it_is_published(ring):
    with closing(RingReader(ring.name)) as reader:
        ring.write(framed(picture(1), 1))
        place = ring.open((80, 100, 3))
        place.pixels[:] = picture(2)
        assert reader.read().frame.seq == 1
        assert reader.read() is None
        ring.publish(place, framed(place.pixels, 2), epoch=3)
        got = reader.read()
        assert (got.frame.seq, got.epoch, got.number) == (2, 3, 2)
        assert np.array_equal(got.frame.pixels, picture(2))


def test_two_may_be_open_and_the_newest_stays_readable(ring):
    with closing(RingReader(ring.name)) as reader:
        ring.write(framed(picture(0), 0))
        for seq in range(1, 8, 2):
            newest = reader.view()
            places = [ring.open((80, 100, 3)) for _ in range(2)]
            for n, place in enumerate(places):
                place.pixels[:] = picture(seq + n)
            assert newest.valid()
            assert np.array_equal(newest.item.frame.pixels, picture(seq - 1))
            with pytest.raises(WireError, match="no slot left"):
                ring.open((80, 100, 3))
            for n, place in enumerate(places):
                ring.publish(place, framed(place.pixels, seq + n))


def test_a_slot_that_is_written_to_is_known_by_its_lock(ring):
    """Whoever still looks at what was there finds out."""
    with closing(RingReader(ring.name)) as reader:
        ring.write(framed(picture(0), 0))
        old = reader.view()
        for n in range(1, 3):
            ring.write(framed(picture(n), n))
        assert old.valid()
        ring.drop(ring.open((80, 100, 3)))
        assert not old.valid()


def test_what_is_dropped_is_used_again_and_a_writer_that_dies_leaves_nothing_locked(ring):
    for _ in range(5):
        ring.drop(ring.open((80, 100, 3)))
    ring.write(framed(picture(1), 1))
    ring.open((80, 100, 3)), ring.open((80, 100, 3))
    with closing(RingWriter.attach(ring.name)) as heir, closing(RingReader(ring.name)) as reader:
        for n in range(5):
            heir.write(framed(picture(n), n))
            assert np.array_equal(reader.read().frame.pixels, picture(n))
        with pytest.raises(WireError, match="taken over"):
            ring.write(framed(picture(1), 1))


def test_a_picture_that_is_too_large_opens_nothing(ring):
    with pytest.raises(WireError, match="larger"):
        ring.open((2000, 2000, 4))
    for n in range(4):
        ring.write(framed(picture(n), n))


# Registered memory


def test_a_slot_is_registered_once_and_anew_where_a_picture_is_larger(ring):
    machine = EmulatedMachine()
    pins = Pins(machine)
    place = ring.open((300, 100, 3))
    small = place.pixels[:50]
    one, again = pins.find(small), pins.find(small)
    assert one.data_ptr() == again.data_ptr() == small.ctypes.data
    assert [tensor.numel() % PAGE for tensor in machine.pinned.values()] == [0]
    grown = pins.find(place.pixels)
    assert tuple(grown.shape) == (300, 100, 3)
    assert len(machine.pinned) == 1
    grown.fill_(7)
    assert (place.pixels == 7).all()
    pins.close()
    assert not machine.pinned


def test_what_does_not_begin_with_a_page_is_left_alone(ring):
    pins = Pins(EmulatedMachine())
    place = ring.open((80, 100, 3))
    assert pins.find(place.pixels[1:]) is None
    assert pins.find(place.pixels[:, ::2]) is None
    assert not pins.failed


def test_after_a_refusal_nobody_is_asked_again(ring):
    machine = EmulatedMachine()
    machine.lockable = 0
    pins = Pins(machine)
    pixels = ring.open((80, 100, 3)).pixels
    assert pins.find(pixels) is None
    assert "copied once more" in pins.failed
    machine.lockable = 1 << 30
    assert pins.find(pixels) is None


def test_the_stand_in_for_a_card_forgives_nothing():
    machine = EmulatedMachine()
    stream = machine.stream(first=True)
    with closing(RingWriter.create(1 << 20)) as ring:
        at = ring.open((80, 100, 3)).pixels.ctypes.data
        with pytest.raises(BrokenRule, match="whole pages"):
            machine.pin(at + 8, PAGE)
        tensor = machine.pin(at, 2 * PAGE)
        with pytest.raises(BrokenRule, match="twice"):
            machine.pin(at + PAGE, PAGE)
        with machine.on(stream):
            tensor.add_(1)
        with pytest.raises(BrokenRule):
            machine.claim(tensor)
        stream.mark().wait()
        machine.unpin(tensor)
        with machine.on(stream), pytest.raises(BrokenRule, match="let go of"):
            tensor.add_(1)
        with pytest.raises(BrokenRule, match="not registered"):
            machine.unpin(tensor)
        kept = machine.pin(at, PAGE)
        ring.unlink()
    with pytest.raises(BrokenRule, match="unmapped"):
        machine.unpin(kept)


# A worker's way


class Loop:
    """Two rings, a stream on an emulated card, and the worker that turns between them."""

    def __init__(self, folder, lockable: int = 1 << 40) -> None:
        self.machine = EmulatedMachine()
        self.machine.lockable = lockable
        self.source, self.sink = RingWriter.create(1 << 20), RingWriter.create(1 << 20)
        self.ring_in, self.shown = RingReader(self.source.name), RingReader(self.sink.name)
        nets = CompiledEngine(self.machine).load(folder, BUILD)
        self.stream = DiffusionStream(nets, (SIDE, SIDE), Params(), clock=lambda: 0.0)
        self.eager = DiffusionStream(EagerEngine().load(folder, BUILD), (SIDE, SIDE), Params(), clock=lambda: 0.0)
        (far, self._near), (self._far, near) = os.pipe(), os.pipe()
        self.ear, self.mouth = os.fdopen(far, "rb"), os.fdopen(near, "wb", buffering=0)
        self.worker, self.lent = Worker(self.ear, self.mouth), LentRing(self.sink)
        self.stream.lend(self.lent)
        self.published: list[int] = []
        publish = self.sink.publish

        def watched(place, *more: Any, **named: Any) -> None:
            """A picture that the card may still be at work on is not published."""
            registered = self.machine.pinned.get(place.pixels.ctypes.data)
            if registered is not None:
                self.machine.claim(registered)
            self.published.append(place.pixels.ctypes.data)
            publish(place, *more, **named)

        self.sink.publish = watched

    def feed(self, n: int, shape: tuple[int, ...] = (80, 100, 3), **values: Any) -> np.ndarray:
        self.source.write(framed(picture(n, shape), n), pack(Params(**values)))
        return self.eager(picture(n, shape), Params(**values)).copy()

    def turn(self) -> None:
        assert self.worker._turn(self.stream, self.ring_in, self.lent)

    def show(self) -> tuple[int, np.ndarray]:
        got = self.shown.read()
        return got.frame.seq, got.frame.pixels

    def close(self) -> None:
        self.stream.lend(None)
        assert not self.machine.pinned
        for ring in (self.ring_in, self.shown, self.source, self.sink):
            ring.close()
        self.source.unlink(), self.sink.unlink()
        self.ear.close(), self.mouth.close()
        os.close(self._near), os.close(self._far)
        self.stream.close()
        self.eager.close()


@pytest.fixture(scope="module")
def folder(model_folder):
    return model_folder()


@pytest.fixture
def loop(request, folder) -> Iterator[Loop]:
    made = Loop(folder, *getattr(request, "param", ()))
    yield made
    made.close()


def test_frames_and_pictures_lie_in_the_rings_and_nowhere_else_on_the_host(loop):
    for n in range(5):
        wanted = loop.feed(n)
        loop.turn(), loop.turn()
        seq, found = loop.show()
        assert seq == n
        assert np.array_equal(found, wanted)
    lies = {tensor.data_ptr() for tensor in loop.machine.pinned.values()}
    assert set(loop.published[-3:]) <= lies
    assert len(lies) == 6, "three slots of each ring"
    assert not loop.stream.painter._upload._places, "nothing was staged"
    assert loop.stream.notes()["engine.failed"] == ""


def test_two_frames_under_way_are_published_one_after_the_other(loop):
    wanted = []
    for n in range(6):
        wanted.append(loop.feed(n))
        loop.turn()
        if n:
            loop.worker._end(loop.stream, loop.lent)
            seq, found = loop.show()
            assert seq == n - 1
            assert np.array_equal(found, wanted[seq])
    loop.turn()
    assert np.array_equal(loop.show()[1], wanted[-1])


def test_the_host_knows_that_the_slot_was_read_before_it_asks_whether_it_is_whole(loop):
    asked = []

    def whole() -> bool:
        loop.machine.claim(next(iter(loop.machine.pinned.values())))  # which fails while the card may still read it
        asked.append(1)
        return True

    wanted = loop.feed(1)
    view = loop.ring_in.view()
    loop.stream.begin(view.item.frame.pixels, Params(), None, whole)
    assert np.array_equal(loop.stream.end(), wanted)
    assert asked == [1]


def test_a_frame_that_was_overtaken_is_not_painted_and_the_newer_one_is(loop):
    first = loop.feed(1)
    loop.turn(), loop.turn()
    loop.feed(2)
    view = loop.ring_in.view()
    for n in range(3, 6):
        loop.source.write(framed(picture(n), n), pack(Params()))
    assert not view.valid()
    with pytest.raises(Overtaken):
        loop.stream.begin(view.item.frame.pixels, Params(), None, view.valid)
    loop.worker._begin(loop.stream, view.item, view.valid)  # says nothing, and counts no failure
    assert not loop.worker._flying
    assert not loop.worker._failures
    assert np.array_equal(loop.show()[1], first)
    wanted = loop.eager(picture(5), Params())
    loop.turn(), loop.turn()
    seq, found = loop.show()
    assert seq == 5
    assert np.array_equal(found, wanted)


def test_a_held_picture_is_published_again(loop):
    wanted = loop.feed(1)
    loop.turn(), loop.turn()
    for n in range(2, 8):
        loop.source.write(framed(picture(n), n), pack(Params(pause=True)))
        loop.turn(), loop.turn()
        seq, found = loop.show()
        assert seq == n
        assert np.array_equal(found, wanted)
    loop.feed(9)
    loop.turn(), loop.turn()
    assert loop.show()[0] == 9


def test_inputs_of_other_sizes_are_fetched_too(loop):
    for n, shape in enumerate([(80, 100, 3), (200, 100, 4), (64, 70, 1), (80, 100, 3)]):
        wanted = loop.feed(n, shape)
        loop.turn(), loop.turn()
        assert np.array_equal(loop.show()[1], wanted), shape


@pytest.mark.parametrize("loop", [(0,), (30000,)], indirect=True, ids=["none", "one slot of ring A"])
def test_where_memory_may_not_be_locked_pictures_are_copied_and_one_sentence_says_so(loop):
    for n in range(4):
        wanted = loop.feed(n)
        loop.turn(), loop.turn()
        assert np.array_equal(loop.show()[1], wanted)
    assert "can't reach shared memory" in loop.stream.notes()["engine.failed"]
    assert loop.published, "by a copy, which is published as any other"
    assert len(loop.machine.pinned) <= 1
    assert not loop.lent._open


def test_a_frame_that_fails_keeps_no_slot(loop):
    unet, nets = loop.stream.nets.unet, loop.stream.nets

    def breaks(*_: Any) -> torch.Tensor:
        raise ValueError("no")

    object.__setattr__(nets, "unet", breaks)
    for n in range(4):
        loop.source.write(framed(picture(n), n), pack(Params()))
        loop.turn()
    assert loop.worker._failures == 4
    object.__setattr__(nets, "unet", unet)
    wanted = loop.feed(9)
    loop.turn(), loop.turn()
    assert np.array_equal(loop.show()[1], wanted)
