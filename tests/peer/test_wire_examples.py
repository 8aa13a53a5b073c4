"""The programs of docs/examples, run as they stand against our drivers; and as small as docs/wire.md promises."""

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.ports import free_port

from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.frame import Frame, Stamps
from bridge.shm import remove

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def name():
    name = f"lltest-{secrets.token_hex(6)}"
    yield name
    remove(name)


@pytest.fixture
def address():
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def run(tmp_path):
    """Starts an example away from the repository, so that it can't import us; ends it after the test."""
    children = []
    # Whoever runs the tests in a shell's background has SIGINT ignored, and so would the examples.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(program, *arguments):
        command = [sys.executable, "-W", "error", EXAMPLES / program, *map(str, arguments)]
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        child = subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield start
    signal.signal(signal.SIGINT, before)
    for child in children:
        child.kill()
        child.communicate(timeout=60)


def take(source, count, seconds=60):
    deadline = time.monotonic() + seconds
    frames = []
    while len(frames) < count:
        assert time.monotonic() < deadline, source.describe()
        frame = source.read(0.1)
        if frame is not None:
            frames.append(frame)
    return frames


def feed(sink, child, seconds=60):
    """Write frames until the example has had enough; returns its lines."""
    stop = threading.Event()

    def write():
        seq = 0
        while not stop.is_set():
            stamps = Stamps(time.perf_counter_ns())
            sink.write(Frame(np.full((16, 24, 3), 100, np.uint8), seq, stamps, version=7))
            seq += 1
            stop.wait(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        out, err = child.communicate(timeout=seconds)
    finally:
        stop.set()
        thread.join()
    assert (child.returncode, err) == (0, "")
    return out.splitlines()


@pytest.mark.parametrize("program", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_each_is_short_and_needs_nothing_of_ours(program):
    text = (EXAMPLES / program).read_text()
    assert len(text.splitlines()) <= 40
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.M))
    assert imported - set(sys.stdlib_module_names) <= {"numpy", "zmq", "msgpack"}


def check_picture(frame, channels):
    """The examples draw x + n, y, x ^ y."""
    pixels = frame.pixels
    assert pixels.shape == (48, 64, channels)
    y, x = np.mgrid[:48, :64]
    n = int(pixels[0, 0, 0])
    assert np.array_equal(pixels[:, :, 0], (x + n) % 256)
    assert np.array_equal(pixels[:, :, 1], y)
    assert np.array_equal(pixels[:, :, 2], x ^ y)
    return n


def test_shm_write_feeds_the_source(run, name):
    source = make_source(f"shm?name={name}", Context())
    source.open()
    child = run("shm_write.py", name, 64, 48, 100, 60)
    frames = take(source, 10)
    numbers = [check_picture(frame, 4) for frame in frames]
    assert numbers == sorted(set(numbers))
    now = time.perf_counter_ns()
    assert all(0 < now - f.stamps.captured < 20e9 for f in frames)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (0, "", "")
    source.close()


def test_shm_read_follows_the_sink_across_its_restart(run, name):
    child = run("shm_read.py", name, 10)
    sink = make_sink(f"shm?name={name}", Context())
    sink.open()
    sink.write(Frame(np.full((16, 24, 3), 100, np.uint8), 1, version=7))
    assert child.stdout.readline().startswith("frame 1: 24x16x3, params 7, mean 100.0")
    sink.close()
    sink.open()
    lines = feed(sink, child)
    assert len(lines) == 9
    assert all("24x16x3, params 7, mean 100.0" in line for line in lines)
    sink.write(Frame(np.zeros((4, 4, 3), np.uint8), 1))
    late = run("shm_read.py", name, 1)
    assert late.communicate(timeout=60)[0].startswith("frame 1: 4x4x3"), "the first reader took the segment with it"
    sink.close()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_shm_write_interrupted_leaves_nothing(run, name):
    source = make_source(f"shm?name={name}", Context())
    source.open()
    child = run("shm_write.py", name, 64, 48)
    take(source, 3)
    child.send_signal(signal.SIGINT)
    assert "leaked" not in child.communicate(timeout=60)[1]
    assert not Path("/dev/shm", name).exists()
    source.close()


def test_zmq_send_feeds_the_source(run, address):
    source = make_source(f"zmq:{address}", Context())
    source.open()
    run("zmq_send.py", address, 64, 48, 100)
    numbers = [check_picture(frame, 3) for frame in take(source, 10)]
    assert numbers == sorted(set(numbers))
    source.close()


@pytest.mark.parametrize(("codec", "said"), [("raw", "rgb8 raw, mean 100.0"), ("jpeg", "bytes of JPEG")])
def test_zmq_receive_gets_what_the_sink_publishes(run, address, codec, said):
    sink = make_sink(f"zmq:{address}?codec={codec}", Context())
    sink.open()
    lines = feed(sink, run("zmq_receive.py", address, 5))
    frames = [line for line in lines if line.startswith("frame")]
    assert len(frames) == 5
    assert all("24x16" in line and said in line for line in frames)
    sink.close()
