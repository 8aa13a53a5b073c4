"""The shared-memory source and sink against real writers and readers that start, stop, crash and come back."""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.errors import ConfigError, SinkError
from bridge.frame import Frame, Stamps
from bridge.ring import RingReader, RingWriter
from bridge.ring_layout import DEFAULT_CAPACITY, Word
from bridge.shm import Segment, remove

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts through /proc and /dev/shm")

SINK = """
import sys, time, numpy as np
from bridge.context import Context
from bridge.drivers import make_sink
from bridge.frame import Frame
sink = make_sink("shm?name=" + sys.argv[1], Context())
sink.open()
print("open", flush=True)
for seq in range(100_000):
    sink.write(Frame(np.full((8, 8, 3), seq % 256, np.uint8), seq))
    time.sleep(0.005)
"""


@pytest.fixture
def context():
    return Context()


@pytest.fixture
def name():
    name = f"lltest-{secrets.token_hex(6)}"
    yield name
    remove(name)


@pytest.fixture
def source(context, name):
    source = make_source(f"shm?name={name}", context)
    source.open()
    yield source
    source.close()


@pytest.fixture
def sink(context, name):
    sink = make_sink(f"shm?name={name}", context)
    sink.open()
    yield sink
    sink.close()


def picture(value, shape=(8, 8, 3)):
    return np.full(shape, value, np.uint8)


def child(code, *arguments):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def next_frame(source, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        frame = source.read(0.1)
        if frame is not None:
            return frame
    pytest.fail(f"no frame within {seconds} s: {source.describe()}")


def test_frames_arrive_numbered_and_stamped(context, name, source):
    assert source.read(0.05) is None
    assert "waiting for a writer" in source.describe()
    writer = RingWriter.create(64 * 64 * 4, name)
    for seq, shape in [(100, (1, 1, 1)), (3, (64, 64, 4)), (3, (7, 5, 3))]:
        writer.write(Frame(picture(9, shape), seq, Stamps(5, 6, 7, 8), media_ns=44, version=3))
        frame = next_frame(source)
        assert frame.pixels.shape == shape
        assert (frame.media_ns, frame.version) == (44, 0)
        assert frame.stamps[1:] == (0, 0, 0)
        assert frame.stamps.captured > 0
    assert frame.seq == 2
    assert source.describe().endswith("5x7 rgb8")
    writer.close()
    writer.unlink()


def test_a_writer_that_is_killed_and_restarted_is_followed(context, name, source):
    for _ in range(3):
        writer = child(SINK, name)
        assert writer.stdout.readline() == b"open\n"
        before = next_frame(source).seq
        assert next_frame(source).seq == before + 1
        writer.kill()
        writer.communicate(timeout=60)
        while source.read(0.05) is not None:
            pass
    assert context.metrics.get("source.rejected") == 0


def test_silence_is_counted_once_and_said(context, name, source):
    writer = RingWriter.create(4096, name)
    writer.write(Frame(picture(1), 0))
    next_frame(source)
    deadline = time.monotonic() + 60
    while not context.metrics.get("source.stale") and time.monotonic() < deadline:
        assert source.read(0.1) is None
    source.read(0.1)
    assert context.metrics.get("source.stale") == 1
    assert "silent for" in source.describe()
    writer.write(Frame(picture(2), 1))
    next_frame(source)
    assert "silent" not in source.describe()
    writer.close()
    writer.unlink()


def test_a_frozen_writer_is_said(context, name, source, monkeypatch):
    monkeypatch.setattr("bridge.sources.freshness.STALE_NS", 50_000_000)
    writer = RingWriter.create(4096, name)
    for seq in range(8):
        writer.write(Frame(picture(1), seq))
        next_frame(source)
        time.sleep(0.02)
    assert "unchanged" in source.describe()
    writer.close()
    writer.unlink()


def test_an_old_picture_is_not_taken_for_new(name, source):
    writer = RingWriter.create(4096, name)
    writer.write(Frame(picture(1), 0))
    writer._words[Word.BEAT] = 1
    assert source.read(0.2) is None
    writer.write(Frame(picture(2), 1))
    assert next_frame(source).pixels[0, 0, 0] == 2
    writer.close()
    writer.unlink()


def test_broken_slots_are_counted_and_skipped(context, name, source):
    writer = RingWriter.create(4096, name)
    for seq in range(3):
        writer.write(Frame(picture(1), seq))
        at = writer._geometry.slot_at(writer._words[Word.NEWEST] & 0xFF) // 8
        writer._words[at + 4] = 10**9
        assert source.read(0.1) is None
        assert context.metrics.get("source.rejected") == seq + 1
        assert "outside" in source.describe()
    writer.write(Frame(picture(2), 9))
    assert next_frame(source).seq == 0
    writer.close()
    writer.unlink()


def test_a_segment_that_is_no_ring_is_waited_out(name, source):
    other = Segment.create(8192, name)
    assert source.read(0.1) is None
    assert "not a livelatent ring" in source.describe()
    other.close()
    other.unlink()
    writer = RingWriter.create(4096, name)
    writer.write(Frame(picture(2), 9))
    next_frame(source)
    writer.close()
    writer.unlink()


@LINUX
def test_following_leaks_nothing(name, source):
    def open_files():
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count("lltest")

    counts = set()
    for i in range(8):
        writer = RingWriter.create(4096, name)
        writer.write(Frame(picture(i), i))
        assert next_frame(source).pixels[0, 0, 0] == i
        writer.close()
        writer.unlink()
        source.read(0.25)
        counts.add(open_files())
    assert len(counts) == 1, counts


def test_the_sink_publishes_and_removes_its_name(name, sink):
    reader = RingReader(name)
    for value, shape in [(1, (2, 2, 3)), (2, (2160, 4096, 4)), (3, (1, 1, 1))]:
        frame = Frame(picture(value, shape), 40 + value, Stamps(1, 2, 3, 4), 5, 6)
        sink.write(frame)
        got = reader.read().frame
        assert np.array_equal(got.pixels, frame.pixels)
        assert (got.seq, got.stamps, got.media_ns, got.version) == (40 + value, (1, 2, 3, 4), 5, 6)
    sink.close()
    sink.close()
    assert reader.finished
    reader.close()
    if os.name == "posix":
        with pytest.raises(FileNotFoundError):
            RingReader(name)
    with pytest.raises(SinkError, match="not open"):
        sink.write(frame)


def test_a_second_instance_gets_a_sentence_and_the_first_goes_on(context, name, sink):
    sink.write(Frame(picture(1), 1))
    second = make_sink(f"shm?name={name}", context)
    with pytest.raises(SinkError, match="in use by another run; choose another with"):
        second.open()
    second.close()
    sink.write(Frame(picture(2), 2))
    reader = RingReader(name)
    assert reader.read().frame.seq == 2
    reader.close()


def test_what_a_killed_run_left_is_taken_over_and_its_readers_stay(context, name):
    former = child(SINK, name)
    assert former.stdout.readline() == b"open\n"
    reader = RingReader(name)
    former.kill()
    former.wait(60)
    heir = make_sink(f"shm?name={name}", context)
    heir.open()
    deadline = time.monotonic() + 60
    seen = None
    while time.monotonic() < deadline and seen is None:
        # The dead run's resource tracker may remove the name now: the sink has to notice and make it anew.
        heir.write(Frame(picture(7), 777))
        time.sleep(0.05)
        if not reader.named():
            reader.close()
            try:
                reader = RingReader(name)
            except FileNotFoundError:
                continue
        got = reader.read()
        seen = got if got is not None and got.frame.seq == 777 else None
    assert seen is not None
    former.communicate(timeout=60)
    time.sleep(0.6)
    heir.write(Frame(picture(8), 778))
    late = RingReader(name)
    assert late.read().frame.seq == 778
    late.close()
    reader.close()
    heir.close()


def test_a_stale_segment_of_another_shape_is_replaced(context, name):
    for stale in ("ring", "garbage"):
        if stale == "ring":
            writer = RingWriter.create(4096, name)
            writer._words[Word.PID] = 2**31 - 2
            writer._segment.disown()
            writer._segment.close()
        else:
            segment = Segment.create(8192, name)
            segment.disown()
            segment.close()
        sink = make_sink(f"shm?name={name}", context)
        sink.open()
        reader = RingReader(name)
        assert reader.capacity == DEFAULT_CAPACITY
        reader.close()
        sink.close()


def test_a_sink_whose_name_was_removed_makes_it_anew(name, sink):
    remove(name)
    time.sleep(0.6)
    sink.write(Frame(picture(5), 5))
    reader = RingReader(name)
    assert reader.read().frame.seq == 5
    reader.close()


def test_a_sink_whose_ring_was_taken_over_says_so_and_leaves_it_alone(name, sink):
    heir = RingWriter.attach(name)
    with pytest.raises(SinkError, match="taken over"):
        sink.write(Frame(picture(1), 1))
    sink.close()
    heir.write(Frame(picture(2), 2))
    reader = RingReader(name)
    assert reader.read().frame.seq == 2
    reader.close()
    heir.close()


@pytest.mark.parametrize("bad", ["shm?name=", "shm?name=../x", "shm?name=" + "x" * 31, "shm?size=3"])
def test_options_are_checked(context, bad):
    for make in (make_sink, make_source):
        with pytest.raises(ConfigError):
            make(bad, context)
