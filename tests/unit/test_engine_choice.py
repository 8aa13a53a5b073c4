"""Engine `auto`: eager first, what is better afterwards, and what was found is remembered."""

from __future__ import annotations

import sys
import time

import msgspec
import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from engines.errors import ModelError
from engines.openvino_device import installed
from pipelines import choose, gate, judge
from pipelines.choose import Verdict
from pipelines.params import Params
from pipelines.spec import StreamSpec
from pipelines.start import start
from pipelines.stream import DiffusionStream
from pipelines.upgrade import AFTER_S, Upgrade
from tests.support.controlnets import write_controlnet
from tests.support.toys import register_model

SIDE = 64
FRAME = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
SPEC = StreamSpec(model="small", width=SIDE, height=SIDE, engine="auto", dtype="fp32", threads=1)
FASTER = Verdict("openvino", "openvino is 2.0 times as fast here")
needs_openvino = pytest.mark.skipif(not installed(), reason="openvino is not installed")


@pytest.fixture(autouse=True)
def here(model_folder, monkeypatch):
    """The model `small`, and a machine without a graphics card that has openvino."""
    register_model(model_folder())
    monkeypatch.setattr(choose, "installed", lambda: "2026.4.1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def eager(folder):
    return EagerEngine().load(folder, Build(SIDE, SIDE, device="cpu", dtype="fp32"))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_was_found_is_remembered_for_this_size_and_forgotten_with_the_weights(model_folder, tmp_path):
    assert choose.recall(SPEC) is None
    choose.keep(SPEC, FASTER)
    assert choose.recall(SPEC) == FASTER
    for change in ({"width": 128}, {"dtype": "bf16"}, {"threads": 2}):
        assert choose.recall(msgspec.structs.replace(SPEC, **change)) is None
    choose.place(SPEC).write_text("{")
    assert choose.recall(SPEC) is None
    choose.keep(SPEC, FASTER)
    register_model(model_folder("sd21"))
    assert choose.recall(SPEC) is None


@pytest.mark.parametrize(
    ("figures", "engine", "words"),
    [
        ((40.0, 20.0, 0.99, 0.01), "openvino", "2.0 times as fast"),
        ((20.0, 20.0, 0.99, 0.01), "eager", "not faster"),
        ((40.0, 20.0, 0.95, 0.01), "eager", "likeness 0.950"),
        ((40.0, 20.0, 0.99, 0.07), "eager", "distance 0.070"),
    ],
)
def test_it_has_to_be_faster_and_look_alike(figures, engine, words):
    found = judge.verdict(*figures)
    assert (found.engine, words in found.why) == (engine, True)


def test_the_gate_tells_noise_from_another_picture():
    one, two = (torch.from_numpy(p).permute(2, 0, 1)[None] / 127.5 - 1 for p in judge.scenes(128, 128)[:2])
    generator = torch.Generator().manual_seed(1)
    near = one + 0.01 * torch.randn(one.shape, generator=generator)
    assert gate.likeness(one, one) == pytest.approx(1.0)
    assert gate.distance(one, one) == 0.0
    assert gate.likeness(one, near) > 0.9 > gate.likeness(one, two)
    assert gate.distance(one, near) < gate.distance(one, two)
    assert gate.distance(one, two) > 2 * gate.DISTANCE
    from skimage.metrics import structural_similarity

    theirs = structural_similarity(
        *((picture[0] / 2 + 0.5).numpy() for picture in (one, two)),
        channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert gate.likeness(one, two) == pytest.approx(float(theirs), abs=0.02)


def test_the_first_pictures_are_eagers_and_wait_for_nothing():
    nets, why, upgrade = start(SPEC)
    assert nets.described.startswith("cpu")
    assert why == ""
    assert upgrade is not None
    for _ in range(3):
        assert upgrade.poll(painting=True) is None
    assert upgrade._thread is None, "nothing begins before pictures have flowed for a while"


@pytest.mark.parametrize(
    ("change", "words"), [({"device": "cpu", "engine": "eager"}, ""), ({"device": "auto"}, "not faster")]
)
def test_eager_stays_where_it_was_asked_for_or_found_best(change, words):
    choose.keep(SPEC, Verdict("eager", "openvino is not faster here"))
    nets, why, upgrade = start(msgspec.structs.replace(SPEC, **change))
    assert nets.described.startswith("cpu")
    assert words in why
    assert upgrade is None


def test_where_it_is_not_installed_that_is_said(monkeypatch):
    monkeypatch.setattr(choose, "installed", str)
    _, why, upgrade = start(SPEC)
    assert why == "openvino is not installed"
    assert upgrade is None


def test_a_painter_measures_once_its_show_lasts_and_hands_over_once(model_folder):
    clock, asked, nets = Clock(), [], eager(model_folder())
    upgrade = Upgrade(SPEC, lambda: nets, lambda spec: asked.append(spec) or FASTER, clock)
    assert upgrade.poll(painting=True) is None
    clock.now = AFTER_S - 0.1
    assert upgrade.poll(painting=True) is None
    clock.now = AFTER_S
    got = []
    until(lambda: got.append(upgrade.poll(painting=True)) or got[-1] is not None)
    assert got[-1] is nets
    assert upgrade.poll(painting=True) is None
    assert asked == [SPEC]
    assert upgrade.note == FASTER.why


def test_a_standby_measures_nothing_but_takes_what_the_painter_found(model_folder):
    clock, asked, nets = Clock(), [], eager(model_folder())
    upgrade = Upgrade(SPEC, lambda: nets, lambda spec: asked.append(spec) or FASTER, clock)
    for clock.now in (0.0, AFTER_S, 10 * AFTER_S):
        assert upgrade.poll(painting=False) is None
    choose.keep(SPEC, FASTER)
    clock.now += 2.0
    got = []
    until(lambda: got.append(upgrade.poll(painting=False)) or got[-1] is not None)
    assert not asked


def test_a_rung_that_fails_is_named_and_the_show_goes_on():
    def broken():
        raise ModelError("the compiler ended its process")

    clock = Clock()
    upgrade = Upgrade(SPEC, broken, lambda spec: FASTER, clock)
    stream = DiffusionStream.load(SPEC, Params())
    stream._upgrade = upgrade
    try:
        stream(FRAME, Params())
        clock.now = AFTER_S
        stream(FRAME, Params())
        until(lambda: upgrade.note)
        before = stream(FRAME, Params()).copy()
        assert "the compiler ended its process" in stream.notes()["engine"]
        assert stream.notes()["engine.failed"] == upgrade.note
        assert np.array_equal(stream(FRAME, Params()), before)
    finally:
        stream.close()


def test_a_handover_keeps_the_past_the_prompt_and_the_controlnets(model_folder, tmp_path):
    """The same weights under another engine: not one level of the picture moves, with feedback and a ControlNet."""
    from tests.support.controlnets import register

    folder = model_folder()
    register({"hand": write_controlnet(tmp_path / "hand", folder)})
    unit = {"control1_on": True, "control1_model": "hand", "control1_preprocessor": "none"}
    params = Params(prompt="neon", feedback=0.5, steps=2, **unit)
    kept, moved = (DiffusionStream(eager(folder), (SIDE, SIDE), params) for _ in range(2))
    try:
        for stream in (kept, moved):
            stream.tune(params)
        assert np.array_equal(kept(FRAME, params), moved(FRAME, params))
        old = moved.nets.controlnets["hand"]
        moved.adopt(eager(folder))
        for _ in range(3):
            assert np.array_equal(kept(FRAME, params), moved(FRAME, params))
        moved.tune(params)
        moved(FRAME, params)
        assert moved.nets.controlnets["hand"] is not old, "its ControlNet is loaded again, by the new engine"
    finally:
        kept.close()
        moved.close()


@needs_openvino
def test_the_whole_way_in_processes_of_their_own():
    """Measured by a child, compiled by it; the next stream begins with eager and goes over once that is loaded."""
    found = choose.measure(SPEC)
    assert found.likeness > gate.LIKENESS, found
    assert found.eager_ms > 0
    choose.keep(SPEC, FASTER)
    params = Params(prompt="neon")
    stream = DiffusionStream.load(SPEC, params)
    try:
        before = stream(FRAME, params).astype(int)
        assert stream.nets.described.startswith("cpu")
        until(lambda: stream(FRAME, params) is not None and stream.nets.described.startswith("openvino cpu f32"))
        assert np.abs(stream(FRAME, params) - before).max() <= 1
        assert stream.notes()["engine"].endswith(FASTER.why)
    finally:
        stream.close()


def test_what_only_the_first_engine_can_brings_it_back(model_folder, monkeypatch):
    """A LoRA acts on eager's weights; while one does, eager paints, and the other goes on after it."""
    plain, other = eager(model_folder()), eager(model_folder("sd21"))
    stream = DiffusionStream(plain, (SIDE, SIDE), Params())
    try:
        stream._fast = other
        acting = []
        monkeypatch.setattr(stream.loras, "choose", lambda *_: tuple(acting))
        monkeypatch.setattr(stream.loras, "merge", lambda: None)
        stream(FRAME, Params())
        assert stream.nets.unet is other.unet
        acting.append(("gold", 0.5))
        stream(FRAME, Params())
        assert stream.nets.unet is plain.unet
        acting.clear()
        stream(FRAME, Params())
        assert stream.nets.unet is other.unet
        assert stream.twin(Params()).nets.unet is plain.unet
    finally:
        stream.close()


def test_a_judge_that_dies_is_a_verdict(monkeypatch, tmp_path):
    if sys.platform == "win32":
        pytest.skip("a shell script stands in for Python")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'illegal instruction' >&2\nkill -SEGV $$\n")
    broken.chmod(0o700)
    monkeypatch.setattr(choose.sys, "executable", str(broken))
    found = choose.measure(SPEC)
    assert found.engine == "eager"
    assert "illegal instruction" in found.why
    assert choose.recall(SPEC) == found
