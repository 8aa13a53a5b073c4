"""The fake engine: a stream without networks whose pictures tell which parameters made them."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from engines.errors import ModelError
from engines.fake import FakeStream, read_version, write_version
from pipelines.build import build
from pipelines.params import Params
from pipelines.spec import StreamSpec


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def stream(**options: float) -> FakeStream:
    built = build(StreamSpec(engine="fake", width=128, height=64, fake=options), Params())
    assert isinstance(built, FakeStream)
    return built


@pytest.mark.parametrize("shape", [(64, 128, 3), (64, 128, 4), (64, 128, 1), (1, 1, 1), (288, 1550, 3), (90, 40, 4)])
@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
def test_any_frame_becomes_a_picture_that_names_its_version(shape, fit):
    picture = stream()(noise(*shape), Params(version=123_456_789, fit=fit))
    assert picture.shape == (64, 128, 3)
    assert picture.dtype == np.uint8
    assert read_version(picture) == 123_456_789


def test_the_picture_is_the_negative_and_bypass_the_input():
    frame, fake = noise(64, 128, 3), stream()
    assert np.array_equal(fake(frame, Params())[20:], 255 - frame[20:])
    assert np.array_equal(fake(frame, Params(bypass=True))[20:], frame[20:])


def test_the_version_survives_a_lossy_codec_and_is_not_read_out_of_other_pictures():
    picture = noise(64, 128, 3)
    write_version(picture, 2**32 - 2)
    ok, packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert ok
    assert read_version(cv2.imdecode(packed, cv2.IMREAD_COLOR)) == 2**32 - 2
    for other in (
        np.zeros((64, 128, 3), np.uint8),
        np.full((64, 128, 3), 255, np.uint8),
        np.zeros((4, 4, 3), np.uint8),
    ):
        assert read_version(other) is None


def test_nan_holds_the_last_good_picture():
    fake, first = stream(nan_after=2), noise(64, 128, 3)
    good = fake(first, Params(version=1)).copy()
    held = fake(255 - first, Params(version=2))
    assert np.array_equal(good[20:], held[20:])
    assert fake.notes()["guard.held"] == 1
    assert read_version(held) == 2


def test_it_fails_as_told():
    with pytest.raises(ModelError, match="told to fail"):
        stream(fail_load=1)
    with pytest.raises(ModelError, match="crash_after"):
        stream(typo=1)
    fake = stream(raise_after=2)
    fake(noise(4, 4, 3), Params())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="told to fail"):
            fake(noise(4, 4, 3), Params())


def test_it_needs_no_torch_and_can_take_its_process_with_it():
    script = """
import sys, numpy
from pipelines.build import build
from pipelines.params import Params
from pipelines.spec import StreamSpec
stream = build(StreamSpec(engine="fake", fake={"crash_after": 3}), Params())
for frame in range(3):
    stream(numpy.zeros((8, 8, 3), numpy.uint8), Params())
    print("torch" in sys.modules, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (70, "False\nFalse")
