"""Engine `auto`: eager first, what is better afterwards, and what was found is remembered."""

from __future__ import annotations

import sys
import threading
import time

import msgspec
import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from engines.errors import ModelError
from engines.openvino_device import installed
from pipelines import choose
from pipelines.ladder import LIKENESS, Rung, Tried, Verdict
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
OPENVINO, EAGER = Rung("openvino", "fp32"), Rung("eager", "fp32")
FASTER = Verdict(OPENVINO, "openvino is 2.0 times as fast here")
needs_openvino = pytest.mark.skipif(not installed(), reason="openvino is not installed")


@pytest.fixture(autouse=True)
def here(model_folder, monkeypatch):
    """The model `small`, and a machine without a graphics card that has openvino."""
    register_model(model_folder())
    monkeypatch.setattr(choose, "openvino", lambda: "2026.4.1")
    monkeypatch.setattr(choose, "uncompiled", lambda cuda: "there is no C++ compiler (g++)")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def eager(folder):
    return EagerEngine().load(folder, Build(SIDE, SIDE, device="cpu", dtype="fp32"))


class Choice:
    """What measuring finds, and how often it was asked to."""

    def __init__(self, found=FASTER, card=None):
        self.found, self.card, self.asked = found, card, 0

    def recall(self):
        return choose.recall(SPEC, self.card)

    def measure(self, tell, cancelled):
        self.asked += 1
        tell("trying openvino", 0.5)
        return self.found

    def loaded(self, verdict):
        self.kept = verdict


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
    choose.keep(SPEC, Verdict(EAGER, "openvino is not faster here"))
    nets, why, upgrade = start(msgspec.structs.replace(SPEC, **change))
    assert nets.described.startswith("cpu")
    assert words in why
    assert upgrade is None


def test_where_it_is_not_installed_that_is_said(monkeypatch):
    monkeypatch.setattr(choose, "openvino", str)
    _, why, upgrade = start(SPEC)
    assert why == "openvino is not installed"
    assert upgrade is None


def test_a_painter_measures_once_its_show_lasts_and_hands_over_once(model_folder):
    clock, choice, nets = Clock(), Choice(), eager(model_folder())
    upgrade = Upgrade(lambda *_: nets, choice, clock)
    assert upgrade.poll(painting=True) is None
    clock.now = AFTER_S - 0.1
    assert upgrade.poll(painting=True) is None
    clock.now = AFTER_S
    got = []
    until(lambda: got.append(upgrade.poll(painting=True)) or got[-1] is not None)
    assert got[-1] is nets
    assert upgrade.poll(painting=True) is None
    assert choice.asked == 1
    assert choice.kept == FASTER
    until(lambda: upgrade.note == FASTER.why)
    assert (upgrade.doing, upgrade.failed) == ("", "")


def test_a_standby_measures_nothing_but_takes_what_the_painter_found(model_folder):
    clock, choice, nets = Clock(), Choice(), eager(model_folder())
    upgrade = Upgrade(lambda *_: nets, choice, clock)
    for clock.now in (0.0, AFTER_S, 10 * AFTER_S):
        assert upgrade.poll(painting=False) is None
    choose.keep(SPEC, FASTER)
    clock.now += 2.0
    got = []
    until(lambda: got.append(upgrade.poll(painting=False)) or got[-1] is not None)
    assert not choice.asked


def broken(*_):
    raise ModelError("the compiler ended its process")


def test_a_rung_that_fails_is_named_and_the_show_goes_on():
    clock = Clock()
    upgrade = Upgrade(broken, Choice(), clock)
    stream = DiffusionStream.load(SPEC, Params())
    stream.handover.upgrade = upgrade
    try:
        stream(FRAME, Params())
        clock.now = AFTER_S
        stream(FRAME, Params())
        until(lambda: upgrade.failed)
        before = stream(FRAME, Params()).copy()
        assert "the compiler ended its process" in stream.notes()["engine"]
        assert stream.notes()["engine.failed"] == upgrade.failed
        assert np.array_equal(stream(FRAME, Params()), before)
    finally:
        stream.close()


def test_the_next_rung_down_is_taken_where_the_best_can_not_be_had(model_folder):
    """tensorrt fp8, then fp16: each that fails is named, once."""
    clock, nets, eight, half = Clock(), eager(model_folder()), Rung("tensorrt", "fp8"), Rung("tensorrt", "fp16")
    found = Verdict(
        eight, "tensorrt fp8 is 1.4 times as fast here", (Tried(half, "", taken=True), Tried(eight, "", taken=True))
    )

    def load(rung, *_):
        return broken() if rung == eight else nets

    upgrade = Upgrade(load, Choice(found), clock)
    upgrade.poll(painting=True)
    clock.now = AFTER_S
    got = []
    until(lambda: got.append(upgrade.poll(painting=True)) or got[-1] is not None)
    assert got[-1] is nets
    until(lambda: upgrade.failed)
    assert upgrade.failed == "tensorrt fp8 failed, and what is next goes on: the compiler ended its process"


def test_what_is_on_beside_the_show_is_told_and_can_be_called_off(model_folder):
    """And begins anew where it is wanted again."""
    clock, nets, inside = Clock(), eager(model_folder()), threading.Event()

    class Slow(Choice):
        def measure(self, tell, cancelled):
            found = super().measure(tell, cancelled)
            inside.set()
            if self.asked == 1:
                assert cancelled.wait(60)
                raise ModelError("the search for a faster engine was called off")
            return found

    stream = DiffusionStream.load(SPEC, Params())
    stream.handover.upgrade = upgrade = Upgrade(lambda *_: nets, Slow(), clock)
    try:
        stream(FRAME, Params())
        clock.now = AFTER_S
        stream(FRAME, Params())
        assert inside.wait(60)
        notes = stream.notes()
        assert (notes["engine.doing"], notes["engine.share"]) == ("trying openvino", 0.5)
        stream(FRAME, Params(upgrade=False))
        until(lambda: upgrade.note)
        assert stream.notes()["engine.doing"] == ""
        assert stream.notes()["engine.failed"] == "", "what one wanted is no failure"
        for _ in range(3):
            stream(FRAME, Params(upgrade=False))
            assert stream.nets.unet is not nets.unet
        until(lambda: stream(FRAME, Params()) is not None and stream.nets.unet is nets.unet)
    finally:
        stream.close()


def test_what_a_machine_has_is_tried_in_order(monkeypatch):
    """A precision that was asked for stays, a card's own limits hold, and without TensorRT nothing asks for it."""
    old, new = choose.Card("old", (8, 6)), choose.Card("new", (9, 0))
    spec = msgspec.structs.replace(SPEC, dtype="auto")

    def names(card, **options):
        return [rung.name for rung in choose.rungs(msgspec.structs.replace(spec, **options), card)]

    monkeypatch.setattr(choose, "tensorrt", lambda: "11.4.0")
    monkeypatch.setattr(choose, "triton", str)
    assert names(None) == ["openvino", "openvino int8"]
    assert names(None, dtype="bf16") == ["openvino bf16"]
    assert names(None, device="mps") == []
    assert names(old) == ["eager fp16-accumulate", "tensorrt fp16"]
    assert names(new) == ["eager fp16-accumulate", "tensorrt fp16", "tensorrt fp8"]
    assert names(new, dtype="bf16") == ["tensorrt bf16"]
    assert names(new, dtype="fp16-accumulate") == []
    assert names(new, engine="tensorrt", dtype="fp8") == ["tensorrt fp8"]
    monkeypatch.setattr(choose, "tensorrt", str)
    assert names(new) == ["eager fp16-accumulate"]
    monkeypatch.setattr(choose, "triton", lambda: "3.7.0")
    assert names(new) == ["eager own kernels", "eager fp16-accumulate"]
    assert names(new, dtype="bf16") == ["eager bf16 own kernels"]
    assert names(None) == ["openvino", "openvino int8"]
    monkeypatch.setattr(choose, "uncompiled", lambda cuda: "")
    assert names(new) == ["eager own kernels", "eager inductor", "eager fp16-accumulate"]
    assert names(new, dtype="bf16") == ["eager bf16 own kernels", "eager bf16 inductor"]
    assert names(new, engine="tensorrt", dtype="fp8") == ["tensorrt fp8"]
    assert names(None) == ["openvino", "openvino int8"]
    monkeypatch.setattr(choose, "openvino", str)
    assert names(None) == ["eager inductor"], "a processor that openvino is not there for"
    assert names(None, device="mps") == []


def test_what_was_found_on_one_card_says_nothing_of_another():
    one, other = choose.Card("one", (8, 9)), choose.Card("other", (8, 9))
    choose.keep(SPEC, FASTER, one)
    assert choose.recall(SPEC, one) == FASTER
    assert choose.recall(SPEC, other) is None
    assert choose.recall(SPEC) is None


def test_tensorrt_where_it_is_not_installed_leaves_eager_and_says_so(model_folder):
    """Asked for by name: eager paints at once, and goes on."""
    spec = msgspec.structs.replace(SPEC, engine="tensorrt", dtype="auto")
    stream = DiffusionStream.load(spec, Params())
    try:
        until(lambda: stream(FRAME, Params()) is not None and stream.notes()["engine.failed"])
        assert "tensorrt failed, and what is next goes on: the engine tensorrt needs" in stream.notes()["engine.failed"]
        assert stream.nets.described.startswith("cpu")
        assert choose.recall(spec) is None, "what failed is not what a standby begins with"
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
    assert found.tried[0].likeness > LIKENESS, found
    assert found.tried[0].before_ms > 0
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
        stream.handover.fast = other
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
        twin = stream.twin(Params())
        twin.close()
        assert twin.nets.unet is plain.unet
    finally:
        stream.close()


def test_a_judge_that_dies_is_a_verdict(monkeypatch, tmp_path):
    if sys.platform == "win32":
        pytest.skip("a shell script stands in for Python")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'illegal instruction' >&2\nkill -SEGV $$\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    found = choose.measure(SPEC)
    assert found.rung.engine == "eager"
    assert "illegal instruction" in found.failed
    assert choose.recall(SPEC) == found
