"""NDI for real, on this machine: our source and sink against cyndilib's sender and receiver in another process."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.ndi import Spawn, heard, ndi_alone, needs_ndi, spawn  # noqa: F401

from bridge import ndi
from bridge.clock import now_ns
from bridge.config import Config, LanConfig
from bridge.context import Context
from bridge.drivers import Sink, Source, make_sink, make_source
from bridge.frame import Frame, Pixels, Stamps

pytestmark = [needs_ndi, pytest.mark.usefixtures("ndi_alone", "nothing_left")]
LAN = Context(Config(lan=LanConfig(enabled=True, allow=("127.0.0.0/8",))))
NAME = f"lltest {os.getpid()}"


@pytest.fixture
def source() -> Iterator[Source]:
    source = make_source(f"ndi:{NAME}", Context())
    source.open()
    yield source
    source.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = make_sink(f"ndi:{NAME}", LAN)
    sink.open()
    yield sink
    sink.close()


def read(source: Source, wanted: Callable[[Frame], bool] = lambda frame: True, seconds: float = 60.0) -> Frame:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        frame = source.read(0.2)
        if frame is not None and wanted(frame):
            return frame
    raise AssertionError(f"nothing came: {source.describe()}")


def corner(height: int, width: int, channels: int) -> Pixels:
    """Black, with a red corner at the top left; half transparent where there is alpha."""
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[: height // 4, : width // 4, 0] = 255
    if channels == 4:
        pixels[..., 3] = 64
    return pixels


def has_red_corner(pixels: Pixels) -> bool:
    """At the top left, and nowhere else."""
    reds = [tuple(int(v) for v in pixels[y, x, :3]) for y, x in ((1, 1), (1, -2), (-2, 1), (-2, -2))]
    return reds[0][0] > 200 and max(reds[0][1:]) < 40 and max(v for red in reds[1:] for v in red[:2]) < 40


@pytest.mark.parametrize("alpha", ["", "rgba"])
def test_what_a_sender_sends_arrives_upright_in_its_colours(spawn: Spawn, source: Source, alpha: str) -> None:  # noqa: F811
    spawn("send", NAME, 128, 96, 30, alpha)
    frame = read(source)
    assert frame.pixels.shape == (96, 128, 4 if alpha else 3)
    assert frame.pixels.flags.c_contiguous
    assert has_red_corner(frame.pixels)
    if alpha:
        assert abs(int(frame.pixels[50, 50, 3]) - 64) < 4
    assert 0 <= now_ns() - frame.stamps.captured < 5e9
    later = read(source)
    assert later.seq > frame.seq
    assert later.stamps.captured > frame.stamps.captured


def test_a_sender_that_is_killed_is_followed_into_another_size(spawn: Spawn, source: Source) -> None:  # noqa: F811
    for width in (128, 160, 64):
        child = spawn("send", NAME, width, 96, 30)
        read(source, lambda frame, width=width: frame.width == width)
        child.send_signal(signal.SIGKILL)
        child.wait()
    while source.read(0.05) is not None:
        pass
    began = time.monotonic()
    assert source.read(0.2) is None
    assert time.monotonic() - began < 20.0


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_our_sink_sends_is_what_others_see(spawn: Spawn, sink: Sink, channels: int) -> None:  # noqa: F811
    pixels, numbers = corner(96, 128, channels), itertools.count()
    if channels == 1:
        pixels[:] = 128

    def send() -> None:
        sink.write(Frame(pixels, next(numbers), Stamps(now_ns())))
        time.sleep(1 / 60)

    seen = heard(spawn, "receive", NAME, 1.0, meanwhile=send)
    assert len(seen) >= 5
    width, height, fourcc, top_left, bottom_right = seen[-1]
    assert (width, height, fourcc) == (128, 96, "RGBA" if channels == 4 else "RGBX")
    if channels == 1:
        assert max(top_left[:3]) - min(top_left[:3]) < 4
        assert abs(top_left[0] - 128) < 4
    else:
        assert top_left[0] > 200
        assert max(*top_left[1:3], *bottom_right[:3]) < 40
    if channels == 4:
        assert abs(bottom_right[3] - 64) < 4


def test_marks_travel_with_their_own_pictures_through_changes_of_size() -> None:
    finder, sender = ndi.library().finder(), ndi.library().sender(NAME)
    try:
        deadline = time.monotonic() + 60
        while not (found := [s for s in finder.senders(0.1) if s.name == sender.name]):
            assert time.monotonic() < deadline
        receiver = ndi.library().receiver(found[0])
        seen: dict[str, tuple[int, ...]] = {}
        for n in range(200):
            size = ((48, 64, 3), (80, 32, 4))[n // 5 % 2]
            sender.send(corner(*size), (60, 1), f'<livelatent seq="{n}" captured="1" media="-1"/>')
            picture = receiver.capture(0.05)
            if picture is not None:
                seen[picture.metadata] = picture.pixels.shape
                assert has_red_corner(picture.pixels)
        receiver.close()
    finally:
        sender.close()
        finder.close()
    numbers = {int(text.split('"')[1]): shape for text, shape in seen.items()}
    assert len(numbers) > 100
    assert all(shape == ((48, 64, 3), (80, 32, 4))[n // 5 % 2] for n, shape in numbers.items())


def test_after_a_pause_of_ours_the_newest_picture_comes_first(spawn: Spawn) -> None:  # noqa: F811
    spawn("send", NAME, 128, 96, 60)
    finder = ndi.library().finder()
    deadline = time.monotonic() + 60
    while not (found := [s for s in finder.senders(0.1) if NAME in s.name]):
        assert time.monotonic() < deadline
    receiver = ndi.library().receiver(found[0])
    try:
        while receiver.capture(0.1) is None:
            assert time.monotonic() < deadline
        time.sleep(3.0)
        picture = receiver.capture(1.0)
        assert picture is not None
        # As the sender's clock has it, which is ours: younger than what waited. A busy machine may be late, too.
        assert time.time_ns() - picture.sent_ns < 2e9
        assert picture.skipped > 0
    finally:
        receiver.close()
        finder.close()


def test_a_receiver_that_stands_still_does_not_hold_us_up(spawn: Spawn, sink: Sink) -> None:  # noqa: F811
    child = spawn("receive", NAME, 60)
    pixels = corner(480, 640, 3)
    deadline = time.monotonic() + 60
    while " 1 receiver" not in sink.describe():
        assert time.monotonic() < deadline
        sink.write(Frame(pixels, 0, Stamps(now_ns())))
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGSTOP)
    slowest = 0.0
    for n in range(100):
        began = time.monotonic()
        sink.write(Frame(pixels, n, Stamps(now_ns())))
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.01)
    began = time.monotonic()
    sink.close()
    os.kill(child.pid, signal.SIGKILL)
    assert slowest < 20.0
    assert time.monotonic() - began < 30.0
