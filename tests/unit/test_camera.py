"""The camera source against a scripted device that blocks, freezes, vanishes, changes size; and one real file."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clips import generated, needs_ffmpeg
from support.fake_camera import BLOCK, FREEZE, VANISH, FakeCapture, Step

from bridge.context import Context
from bridge.drivers import make_source
from bridge.errors import ConfigError, SourceError
from bridge.frame import Frame
from bridge.sources import capture
from bridge.sources.camera import CameraSource

SMALL: Step = (32, 24)
pytestmark = pytest.mark.usefixtures("nothing_left")


class Rig:
    """A camera whose n-th opening gets the n-th fake device."""

    def __init__(self, *devices: FakeCapture, freeze: float = 30.0, silent_s: float = 0.3) -> None:
        self.devices = list(devices)
        self._left = iter(devices)
        self.camera = CameraSource(opener=lambda _: next(self._left), freeze=freeze, silent_s=silent_s)

    def frames(self, count: int) -> list[Frame]:
        out: list[Frame] = []
        deadline = time.monotonic() + 60
        while len(out) < count and time.monotonic() < deadline:
            frame = self.camera.read(0.1)
            if frame is not None:
                out.append(frame)
        return out

    def error(self, within_s: float = 20.0) -> str:
        """The SourceError that reading ends in, before the driver of a device that hangs would let go."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            try:
                self.camera.read(0.05)
            except SourceError as error:
                return str(error)
        raise AssertionError("no SourceError")


@pytest.fixture
def rigs() -> Iterator[list[Rig]]:
    """Rigs to take down: everything unblocked, closed, and used properly."""
    made: list[Rig] = []
    yield made
    for rig in made:
        for device in rig.devices:
            device.unblock.set()
        rig.camera.close()
    deadline = time.monotonic() + 30
    while capture.abandoned() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert capture.abandoned() == 0
    assert [d.misuse for r in made for d in r.devices if d.misuse] == []


def opened(rigs: list[Rig], *devices: FakeCapture, freeze: float = 30.0, silent_s: float = 30.0) -> Rig:
    """With a patience that no busy machine exhausts, unless a test is about its end."""
    rig = Rig(*devices, freeze=freeze, silent_s=silent_s)
    rigs.append(rig)
    rig.camera.open()
    return rig


def test_frames_are_rgb_with_growing_numbers_and_stamps(rigs: list[Rig]) -> None:
    rig = opened(rigs, FakeCapture([SMALL]))
    frames = rig.frames(5)
    assert [f.seq for f in frames] == sorted({f.seq for f in frames})
    assert all(f.pixels.shape == (24, 32, 3) for f in frames)
    assert all(b.stamps.captured > a.stamps.captured for a, b in itertools.pairwise(frames))
    device = rig.devices[0]
    rig.camera.close()
    assert device.released


def test_blue_and_red_are_exchanged(rigs: list[Rig]) -> None:
    rig = opened(rigs, FakeCapture([SMALL, FREEZE]), freeze=0)
    (frame,) = rig.frames(1)
    bgr = rig.devices[0]._last
    assert bgr is not None
    assert (frame.pixels == bgr[..., ::-1]).all()


def test_a_blocked_device_is_noticed_and_left_behind(rigs: list[Rig]) -> None:
    rig = opened(rigs, FakeCapture([SMALL] * 3 + [BLOCK]), FakeCapture([SMALL]), silent_s=0.3)
    text = rig.error()
    assert "sends no pictures" in text
    began = time.monotonic()
    rig.camera.close()
    assert time.monotonic() - began < 15, "nobody waits for the driver, which hangs for thirty"
    assert capture.abandoned() == 1
    rig.camera.open()
    assert len(rig.frames(3)) == 3, "the other camera works beside the hanging one"
    rig.devices[0].unblock.set()
    deadline = time.monotonic() + 30
    while not rig.devices[0].released and time.monotonic() < deadline:
        time.sleep(0.01)
    assert rig.devices[0].released, "when the driver lets go, the device is given back"


def test_a_frozen_device_is_noticed(rigs: list[Rig]) -> None:
    rig = opened(rigs, FakeCapture([SMALL] * 3 + [FREEZE]), freeze=0.3)
    text = rig.error()
    assert "frozen" in text


def test_a_standing_picture_may_be_accepted(rigs: list[Rig]) -> None:
    rig = opened(rigs, FakeCapture([SMALL, FREEZE]), freeze=0)
    assert len(rig.frames(60)) == 60


def test_a_vanished_device_is_noticed_and_comes_back(rigs: list[Rig]) -> None:
    rig = opened(rigs, FakeCapture([SMALL] * 3 + [VANISH]), FakeCapture([SMALL]), silent_s=0.3)
    before = rig.frames(2)
    text = rig.error()
    assert "unplugged" in text or "no pictures" in text
    rig.camera.close()
    rig.camera.open()
    after = rig.frames(2)
    assert after[0].seq > before[-1].seq, "numbers go on over a reopening"


def test_size_changes_go_through(rigs: list[Rig]) -> None:
    rig = opened(rigs, FakeCapture([SMALL, (1, 1), (155, 28), SMALL], period_s=0.02))
    sizes = {(f.width, f.height) for f in rig.frames(8)}
    assert SMALL in sizes
    assert len(sizes) >= 2


def test_no_camera_says_what_to_check(rigs: list[Rig]) -> None:
    rig = Rig(FakeCapture([SMALL], opens=False))
    rigs.append(rig)
    with pytest.raises(SourceError, match="plugged in"):
        rig.camera.open()
    assert rig.devices[0].released


def test_hanging_drivers_are_limited_in_number(rigs: list[Rig]) -> None:
    devices = [FakeCapture([SMALL, BLOCK]) for _ in range(capture.MAX_ABANDONED)]
    rig = Rig(*devices, FakeCapture([SMALL]))
    rigs.append(rig)
    threads = threading.active_count()
    for _ in devices:
        rig.camera.open()
        rig.camera.close()
    assert capture.abandoned() == capture.MAX_ABANDONED
    for _ in range(5):
        with pytest.raises(SourceError, match="hang"):
            rig.camera.open()
    assert threading.active_count() <= threads + capture.MAX_ABANDONED


def test_twenty_reopenings_leave_no_thread(rigs: list[Rig]) -> None:
    rig = Rig(*(FakeCapture([SMALL], period_s=0.001) for _ in range(20)))
    rigs.append(rig)
    for _ in range(20):
        rig.camera.open()
        assert rig.camera.read(1.0) is not None
        rig.camera.close()
    assert capture.abandoned() == 0
    assert all(d.released for d in rig.devices)


def test_reading_a_closed_camera_is_an_error() -> None:
    with pytest.raises(SourceError, match="not open"):
        CameraSource().read(0.1)


def test_the_real_opencv_reports_a_missing_camera() -> None:
    source = make_source("camera:/dev/video-there-is-none", Context())
    with pytest.raises(SourceError, match="no camera answers"):
        source.open()
    source.close()


@needs_ffmpeg
def test_the_real_opencv_reads(tmp_path: Path) -> None:
    path = generated(tmp_path / "a.avi", "testsrc2=s=160x90:r=30:d=1", "-c:v", "mjpeg", "-q:v", "2")
    source = make_source(f"camera:{path}?freeze=0", Context())
    source.open()
    frame = source.read(1.0)
    source.close()
    assert frame is not None
    assert frame.pixels.shape == (90, 160, 3)


def test_options() -> None:
    source = make_source("camera:2?size=1280x720&fps=60&fourcc=MJPG&freeze=0", Context())
    assert isinstance(source, CameraSource)
    assert (source.target, source.size, source.fps, source.fourcc, source.freeze) == (2, (1280, 720), 60.0, "MJPG", 0.0)
    for text in ("camera?size=big", "camera?fourcc=TOOLONG", "camera?zoom=2", "camera?freeze=-1"):
        with pytest.raises(ConfigError, match="camera"):
            make_source(text, Context())
