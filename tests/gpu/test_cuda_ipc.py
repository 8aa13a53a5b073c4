"""cuda-ipc on a real NVIDIA card: two processes, their pixels, their times, and a sender that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge import cuda
from bridge.clock import now_ns
from bridge.context import Context
from bridge.drivers import Source, make_source
from bridge.errors import DriverError
from bridge.frame import Frame

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
NAME = f"llgpu-{os.getpid()}"
ROOT = Path(__file__).resolve().parents[2]
SENDER = """
import sys, time
import numpy as np
from bridge.clock import now_ns
from bridge.context import Context
from bridge.drivers import make_sink
from bridge.frame import Frame, Stamps

name, height, width = sys.argv[1], *map(int, sys.argv[2:4])
sink = make_sink(f"cuda-ipc?name={name}", Context())
sink.open()
base = np.random.default_rng(7).integers(0, 256, (height, width, 4), np.uint8)
for n in range(10**6):
    pixels = base + np.uint8(n % 251)
    sink.write(Frame(pixels, n, Stamps(now_ns()), n))
    time.sleep(1 / 120)
"""


@pytest.fixture(autouse=True)
def _card() -> None:
    """Only when a test is about to run: asking makes a context on the card."""
    try:
        cuda.driver().card().close()
    except DriverError as error:
        pytest.skip(str(error))


@pytest.fixture
def source() -> Iterator[Source]:
    made = make_source(f"cuda-ipc?name={NAME}", Context())
    made.open()
    yield made
    made.close()
    (Path("/dev/shm") / NAME).unlink(missing_ok=True)


@pytest.fixture
def send() -> Iterator[Callable[[int, int], subprocess.Popen[bytes]]]:
    children: list[subprocess.Popen[bytes]] = []

    def start(height: int, width: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SENDER, NAME, str(height), str(width)]
        children.append(subprocess.Popen(command, cwd=ROOT))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


def read(source: Source, seconds: float = 60.0) -> Frame:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        frame = source.read(0.2)
        if frame is not None:
            return frame
    raise AssertionError(source.describe())


@pytest.mark.parametrize(("height", "width"), [(512, 512), (1080, 1920)])
def test_a_thousand_pictures_arrive_whole(
    source: Source, send: Callable[[int, int], object], height: int, width: int
) -> None:
    send(height, width)
    base = np.random.default_rng(7).integers(0, 256, (height, width, 4), np.uint8)
    times = []
    for _ in range(1000):
        frame = read(source)
        times.append((now_ns() - frame.stamps.captured) / 1e6)
        assert (frame.pixels == base + np.uint8(frame.media_ns % 251)).all(), frame.media_ns
    assert "graphics memory" in source.describe(), "all of them through the ring"
    p50, p99 = np.percentile(times, [50, 99])
    print(
        f"\n{width}x{height}: p50 {p50:.2f} ms, p99 {p99:.2f} ms from the stamp in one process to pixels in the other"
    )


def test_senders_that_are_killed_are_followed(
    source: Source, send: Callable[[int, int], subprocess.Popen[bytes]]
) -> None:
    waits = []
    for width in (256, 320, 512, 256, 1024):
        child = send(256, width)
        began = time.monotonic()
        while read(source).width != width:
            pass
        waits.append(time.monotonic() - began)
        child.kill()
        child.wait()
        while source.read(0.3) is not None:
            pass
    print(f"\nback after {', '.join(f'{wait:.2f}' for wait in waits)} s, the start of Python included")
