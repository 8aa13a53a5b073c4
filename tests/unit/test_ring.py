"""The ring within one process: what goes in comes out, newest wins, strangers get an error."""

import os
import sys

import numpy as np
import pytest

from bridge.errors import WireError
from bridge.frame import Frame, Stamps
from bridge.ring import RingReader, RingWriter
from bridge.ring_layout import MAX_BLOB, Geometry, Word


def picture(height=4, width=6, channels=4, value=None):
    if value is not None:
        return np.full((height, width, channels), value, np.uint8)
    return np.arange(height * width * channels, dtype=np.uint8).reshape(height, width, channels)


def newest_slot(writer):
    """The word at which it begins."""
    return writer._geometry.slot_at(writer._words[Word.NEWEST] & 0xFF) // 8


@pytest.fixture
def ring():
    writer = RingWriter.create(64 * 64 * 4)
    reader = RingReader(writer.name)
    yield writer, reader
    reader.close()
    writer.close()
    writer.unlink()


def test_everything_that_is_written_comes_out(ring):
    writer, reader = ring
    frame = Frame(picture(), seq=7, stamps=Stamps(1, 2, 3, 4), media_ns=-1, version=9)
    writer.write(frame, b"params", epoch=5)
    got = reader.read()
    assert (got.blob, got.epoch, got.number) == (b"params", 5, 1)
    assert (got.frame.seq, got.frame.stamps, got.frame.media_ns, got.frame.version) == (7, Stamps(1, 2, 3, 4), -1, 9)
    assert np.array_equal(got.frame.pixels, frame.pixels)
    assert got.frame.pixels.flags.writeable
    assert got.frame.pixels.flags.c_contiguous


@pytest.mark.parametrize(
    "pixels",
    [
        picture(1, 1, 1),
        picture(64, 64, 4),
        picture(3, 5, 3)[::-1],
        picture(8, 8, 4)[:, :, :3],
        picture(8, 8, 3)[:, ::-1, ::-1],
        np.asfortranarray(picture(5, 7, 3)),
        np.broadcast_to(np.uint8([[[1, 2, 3]]]), (4, 4, 3)),
    ],
)
def test_any_strides_and_any_size_frame_by_frame(ring, pixels):
    writer, reader = ring
    for value in (pixels, picture(2, 3, 1), pixels):
        writer.write(Frame(value, 0))
        assert np.array_equal(reader.read().frame.pixels, value)


def test_newest_wins_and_nothing_comes_twice(ring):
    writer, reader = ring
    assert reader.read() is None
    for seq in range(5):
        writer.write(Frame(picture(value=seq), seq))
    assert reader.read().frame.seq == 4
    assert reader.read() is None
    assert reader.read(after=4).number == 5
    assert reader.read(after=5) is None


def test_every_reader_gets_every_frame(ring):
    writer, first = ring
    second = RingReader(writer.name)
    writer.write(Frame(picture(), 1))
    assert first.read().frame.seq == second.read().frame.seq == 1
    second.close()


def test_a_view_knows_when_it_was_overwritten(ring):
    writer, reader = ring
    writer.write(Frame(picture(value=1), 1))
    view = reader.view()
    writer.write(Frame(picture(value=2), 2))
    writer.write(Frame(picture(value=3), 3))
    assert view.valid()
    assert (view.item.frame.pixels == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        view.item.frame.pixels[0] = 0
    writer.write(Frame(picture(value=4), 4))
    assert not view.valid()


def test_a_reader_that_is_always_overtaken_gives_up_instead_of_blocking(ring):
    writer, reader = ring
    writer.write(Frame(picture(), 0))
    peek = reader._peek

    def overtaken(newest):
        view = peek(newest)
        for seq in range(3):
            writer.write(Frame(picture(), seq))
        return view

    reader._peek = overtaken
    assert reader.read() is None
    assert reader.torn > 1


def test_a_reader_that_was_kept_from_running_finds_the_later_frame(ring):
    """Between its look at the header and at the slot, the writer comes all the way round."""
    writer, reader = ring
    writer.write(Frame(picture(), 0))
    peek = reader._peek

    def delayed(newest):
        reader._peek = peek
        for seq in range(1, 4):
            writer.write(Frame(picture(), seq))
        return peek(newest)

    reader._peek = delayed
    assert reader.read().frame.seq == 3


def test_views_outlive_both_ends(ring):
    writer, reader = ring
    writer.write(Frame(picture(), 1))
    view = reader.view()
    reader.close()
    reader.close()
    writer.close()
    assert not view.valid()
    assert np.array_equal(view.item.frame.pixels, picture())
    with pytest.raises(WireError, match="closed"):
        reader.read()
    with pytest.raises(WireError, match="closed"):
        writer.write(Frame(picture(), 2))


def test_a_new_writer_takes_over_and_the_old_one_is_told(ring):
    old, reader = ring
    old.write(Frame(picture(value=1), 1))
    new = RingWriter.attach(old.name)
    assert reader.read() is None, "a frame of the replaced writer is stale"
    new.write(Frame(picture(value=2), 2))
    assert reader.read().frame.seq == 2
    with pytest.raises(WireError, match="taken over"):
        old.write(Frame(picture(value=3), 3))
    assert reader.read() is None
    old.close()
    assert not reader.finished, "the goodbye of a replaced writer is not the ring's"
    new.close()
    assert reader.finished


@pytest.mark.parametrize("step", range(1, 5))
def test_a_writer_that_dies_between_any_two_stores_wedges_nobody(ring, step):
    first, reader = ring
    first.write(Frame(picture(value=1), 1))
    assert reader.read().frame.seq == 1

    class Died(Exception):
        pass

    calls = 0

    def die(*_):
        nonlocal calls
        calls += 1
        if calls == step:
            raise Died

    fill, mine = first._fill, first._still_mine
    first._fill = lambda *a: (die(), fill(*a), die())
    first._still_mine = lambda: (die(), mine())
    with pytest.raises(Died):
        first.write(Frame(picture(value=2), 2))
    assert reader.read() is None
    second = RingWriter.attach(first.name)
    for seq in range(3, 9):
        second.write(Frame(picture(value=seq), seq))
        got = reader.read()
        assert got.frame.seq == seq
        assert (got.frame.pixels == seq).all()
    second.close()


def test_frames_that_no_slot_takes_are_refused(ring):
    writer, reader = ring
    for pixels, blob, said in [
        (picture(65, 64, 4), b"", "larger than the ring's slots"),
        (picture(), b"x" * (MAX_BLOB + 1), "16384 fit"),
        (picture(4, 4, 2), b"", "2 channels"),
        (np.zeros((4, 4), np.uint8), b"", "height, width, channels"),
        (np.zeros((4, 4, 3), np.float32), b"", "float32"),
        (np.zeros((0, 4, 3), np.uint8), b"", "outside 1x1"),
    ]:
        with pytest.raises(WireError, match=said):
            writer.write(Frame(pixels, 0), blob)
    with pytest.raises(WireError, match="64 bits"):
        writer.write(Frame(picture(), 2**64))
    assert reader.read() is None
    writer.write(Frame(picture(), 1), b"x" * MAX_BLOB)
    assert len(reader.read().blob) == MAX_BLOB


def test_a_broken_slot_is_reported_once(ring):
    writer, reader = ring
    writer.write(Frame(picture(), 1))
    writer._words[newest_slot(writer) + 4] = 2**40
    with pytest.raises(WireError, match="outside 1x1"):
        reader.read()
    assert reader.read() is None
    writer.write(Frame(picture(), 2))
    assert reader.read().frame.seq == 2


def test_a_newest_slot_that_stays_odd_is_an_error_not_a_spin(ring):
    writer, reader = ring
    writer.write(Frame(picture(), 1))
    writer._words[newest_slot(writer)] |= 1
    with pytest.raises(WireError, match="being written"):
        reader.read()
    assert not reader.wait(0.0)


def test_wait_returns_when_something_is_there(ring):
    writer, reader = ring
    assert not reader.wait(0.01)
    writer.write(Frame(picture(), 1))
    assert reader.wait(0.01)
    reader.skip()
    assert not reader.wait(0.01)
    assert reader.read() is None


def test_whether_the_writer_lives(ring):
    writer, reader = ring
    assert reader.writer_alive(60)
    assert not reader.writer_alive(0)
    writer._words[Word.PID] = 2**31 - 2
    assert not reader.writer_alive(60)
    writer._words[Word.PID] = os.getpid()
    writer.close()
    assert not reader.writer_alive(60)


def test_what_is_not_a_ring_is_refused():
    with pytest.raises(WireError, match="too small"):
        Geometry.parse(memoryview(bytes(64)))
    with pytest.raises(WireError, match="not a livelatent ring"):
        Geometry.parse(memoryview(bytes(8192)))
    for capacity in (0, -1, 2**40):
        with pytest.raises(WireError, match="slot holds"):
            RingWriter.create(capacity)
    with pytest.raises(FileNotFoundError):
        RingReader("ll_nothing_here")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /dev/shm")
def test_the_default_ring_costs_no_memory_before_it_is_used():
    writer = RingWriter.create()
    try:
        path = f"/dev/shm/{writer.name}"
        assert os.stat(path).st_size > 190 * 2**20
        assert os.stat(path).st_blocks * 512 < 128 * 1024
        assert os.stat(path).st_mode & 0o777 == 0o600
        for seq in range(9):
            writer.write(Frame(picture(64, 64, 4), seq))
        assert os.stat(path).st_blocks * 512 < 512 * 1024
    finally:
        writer.close()
        writer.unlink()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reserves")
def test_a_full_dev_shm_is_a_sentence_not_a_bus_error(ring, monkeypatch):
    writer, reader = ring

    def full(fd, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(WireError, match="shared memory is full"):
        writer.write(Frame(picture(), 1))
    monkeypatch.undo()
    writer.write(Frame(picture(), 2))
    assert reader.read().frame.seq == 2
