"""The hint that one looks at is what the unit's network was shown, and costs nothing while nobody looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.params import Params
from pipelines.preprocess.registry import PREPROCESSORS
from pipelines.stream import DiffusionStream
from tests.support.controlnets import register, write_controlnet

SIDE = 64
RNG = np.random.default_rng(0)
FRAME = np.kron(RNG.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
TWO = {
    "control1_on": True, "control1_model": "a", "control1_preprocessor": "invert",
    "control2_on": True, "control2_model": "b", "control2_preprocessor": "canny_colour",
}  # fmt: skip


@pytest.fixture
def stream(shared_nets, model_folder, tmp_path):
    made = {"a": write_controlnet(tmp_path / "a", model_folder("sd15"), 1)}
    made["b"] = write_controlnet(tmp_path / "b", model_folder("sd15"), 2)
    made["six"] = write_controlnet(tmp_path / "six", model_folder("sd15"), 3, channels=6)
    register(made)
    stream = DiffusionStream(shared_nets(), (SIDE, SIDE), Params())
    yield stream
    stream.close()


def paint(stream: DiffusionStream, frame=FRAME, **values):
    params = Params(**values)
    stream.tune(params)
    picture = stream(frame, params).copy()
    hint = stream.hint()
    return picture, None if hint is None else hint.copy()


def test_it_is_what_the_network_is_shown_and_changes_no_bit_of_the_picture(stream):
    plain, none = paint(stream, **TWO)
    assert none is None
    picture, first = paint(stream, **TWO, hint_preview=1)
    assert np.array_equal(picture, plain)
    assert np.abs(first.astype(int) - (255 - FRAME)).max() <= 1
    _, second = paint(stream, **TWO, hint_preview=2)
    shown = torch.from_numpy(FRAME).permute(2, 0, 1)[None].float() / 255
    maker = PREPROCESSORS["canny_colour"]
    edges = maker(shown, *(torch.tensor(bound.settle(-1.0)) for bound in (maker.low, maker.high)))
    assert second.any()
    assert np.abs(second.astype(int) - (edges[0].permute(1, 2, 0).numpy() * 255)).max() <= 1


def test_a_unit_that_does_not_act_has_none_and_a_held_picture_sends_none_again(stream):
    for idle in ({"hint_preview": 3}, {"hint_preview": 1, "control1_weight": 0.0}, {"hint_preview": 1, "bypass": True}):
        assert paint(stream, **{**TWO, **idle})[1] is None, idle
        assert stream.knobs.mode.hint == 0 or idle.get("bypass")
    assert paint(stream, **TWO, hint_preview=1)[1] is not None
    assert paint(stream, **TWO, hint_preview=1, pause=True)[1] is None


def test_of_six_channels_it_is_the_flow(stream):
    unit = {"control1_on": True, "control1_model": "six", "control1_source": "previous_output", "hint_preview": 1}
    _, first = paint(stream, **unit)
    assert (first == 255).all(), "nothing has moved yet"
    _, second = paint(stream, np.roll(FRAME, 3, axis=1), **unit)
    assert np.ptp(second) > 60
