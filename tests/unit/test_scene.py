"""The procedural scene: a pure function, lively, any size, and a source that keeps its clock."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from bridge.config import Config
from bridge.context import Context
from bridge.drivers import DriverSpec, make_source
from bridge.errors import ConfigError
from bridge.sources.scene import SceneSource, draw
from bridge.sources.ticks import Ticks


def test_draw_depends_on_its_arguments_only() -> None:
    first = draw(1.25, 192, 128, 3)
    draw(7.0, 192, 128, 3)
    draw(1.25, 64, 64, 1)
    assert np.array_equal(first, draw(1.25, 192, 128, 3))
    assert not np.array_equal(first, draw(1.30, 192, 128, 3))
    assert not np.array_equal(first, draw(1.25, 192, 128, 7))


def test_draw_is_the_same_in_another_process() -> None:
    code = "import zlib; from bridge.sources.scene import draw; print(zlib.crc32(draw(2.5, 160, 96, 5).tobytes()))"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(runs) == 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 300), (1550, 288), (288, 700), (65, 64), (1280, 720)])
def test_any_size_is_drawn(width: int, height: int) -> None:
    for t in (0.0, 3.3, 1e6):
        picture = draw(t, width, height, 2)
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous


@pytest.mark.parametrize("seed", range(4))
def test_it_moves_everywhere_at_different_speeds_and_has_contrast(seed: int) -> None:
    frames = [draw(t, 256, 256, seed).astype(np.int16) for t in np.arange(0, 4, 0.5)]
    change = np.mean([np.abs(b - a).mean(axis=2) for a, b in itertools.pairwise(frames)], axis=0)
    blocks = change.reshape(8, 32, 8, 32).mean(axis=(1, 3))
    assert (blocks > 0.4).mean() > 0.8, "most of the picture moves"
    assert blocks.max() > 8 * blocks.min(), "some of it fast, some of it slowly"
    assert frames[0].std() > 30


def test_motion_is_gradual() -> None:
    """Half a frame apart the pictures are close: nothing flickers, so a restyled scene holds still where it should."""
    differences = [np.abs(draw(t + 1 / 60, 256, 256, 0).astype(int) - draw(t, 256, 256, 0)).mean() for t in range(8)]
    assert max(differences) < 8


@pytest.mark.parametrize(("pixels", "channels"), [("rgb", 3), ("rgba", 4), ("gray", 1)])
def test_formats_and_config_size(pixels: str, channels: int) -> None:
    context = Context(config=Config(params={"width": 128, "height": 64}))
    source = make_source(f"scene?pixels={pixels}&rate=max&seed=1", context)
    source.open()
    frames = [source.read(1.0) for _ in range(3)]
    source.close()
    assert [f.seq for f in frames if f] == [0, 1, 2]
    assert frames[0] is not None
    assert frames[0].pixels.shape == (64, 128, channels)
    assert frames[0].pixels.flags.c_contiguous
    assert frames[0].media_ns == -1


def test_every_frame_has_its_own_time() -> None:
    source = SceneSource.from_spec(
        DriverSpec.parse("scene?size=64x64&fps=25"), Context(config=Config(every_frame=True))
    )
    source.open()
    frames = [source.read(0.0) for _ in range(5)]
    assert [f.media_ns for f in frames if f] == [0, 40_000_000, 80_000_000, 120_000_000, 160_000_000]


def test_what_is_drawn_beforehand_goes_forth_and_back() -> None:
    source = make_source("scene?size=64x80&fps=8&drawn=0.5&rate=max&pixels=rgba", Context())
    source.open()
    shown = [frame.pixels for _ in range(14) if (frame := source.read(1.0)) is not None]
    source.close()
    assert [np.array_equal(shown[n][..., :3], draw(at / 8, 64, 80)) for n, at in enumerate((0, 1, 2, 3, 2, 1))] == [
        True
    ] * 6
    assert [id(a) == id(b) for a, b in zip(shown, shown[6:], strict=False)] == [True] * 8
    assert "0.5 s drawn" in source.describe()


@pytest.mark.parametrize(
    "text",
    [
        "scene?drawn=-1",
        "scene?size=1024x1024&fps=60&drawn=10&pixels=rgba",
        "scene:x",
        "scene?size=0x5",
        "scene?fps=nan",
        "scene?rate=fast",
        "scene?seed=-1",
        "scene?foo=1",
    ],
)
def test_wrong_options_are_sentences(text: str) -> None:
    with pytest.raises(ConfigError, match="scene"):
        make_source(text, Context())


class _Clock:
    def __init__(self) -> None:
        self.ns = 5_000_000

    def now(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def test_ticks_do_not_drift_and_skip_what_is_late() -> None:
    clock = _Clock()
    start = clock.ns
    ticks = Ticks(30, clock=clock.now, sleep=clock.sleep)
    for expected in range(1000):
        assert ticks.wait(1.0) == expected
        clock.ns += 3_000_000
    assert abs(clock.ns - start - 999 / 30 * 1e9) < 4_000_000
    clock.ns += 1_000_000_000
    late = ticks.wait(1.0)
    assert late is not None
    assert 1028 <= late <= 1030
    assert ticks.skipped == late - 1000
    assert ticks.wait(0.0) is None, "the next is not due yet"


def test_scene_loads_no_torch() -> None:
    code = "import sys, bridge.sources.scene; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
