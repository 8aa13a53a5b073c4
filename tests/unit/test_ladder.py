"""The ladder of engines and precisions: a rung is taken if it paints alike and is faster, and none can end a show."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from engines.errors import ModelError
from pipelines import gate, judge
from pipelines.judge import Painted
from pipelines.ladder import DISTANCE, LIKENESS, TURNS, Near, Rung, Tried, Verdict, climb
from pipelines.spec import StreamSpec
from tests.support.toys import register_model

BASE, HALF, EIGHT = Rung("eager"), Rung("tensorrt", "fp16"), Rung("tensorrt", "fp8")
ALIKE = Near(0.99, 0.01)


class Fake:
    """A rung by figures."""

    def __init__(self, name, ms, near=ALIKE, closed=None):
        self.name, self._ms, self._near, self._closed = name, itertools.cycle(ms), near, closed

    def near(self):
        if isinstance(self._near, Exception):
            raise self._near
        return self._near

    def cost(self):
        return next(self._ms)

    def close(self):
        self._closed.append(self.name)


def climbed(painters, rungs=(HALF, EIGHT)):
    """The verdict over fakes by rung; all must be closed."""
    closed, told, opened = [], [], []

    def load(rung):
        made = painters[rung]
        if isinstance(made, Exception):
            raise made
        made._closed = closed
        opened.append(made.name)
        return made

    try:
        return climb(BASE, rungs, load, "a frame", told.append)
    finally:
        assert sorted(closed) == sorted(opened)
        assert told == list(rungs[: len(told)])


def test_it_goes_up_as_far_as_it_gets_faster():
    found = climbed({BASE: Fake("base", [20.0]), HALF: Fake("half", [10.0]), EIGHT: Fake("eight", [7.0])})
    assert found.rung == EIGHT
    assert found.why == "tensorrt fp8 is 1.4 times as fast here: 7.0 against tensorrt fp16's 10.0 ms a frame"
    assert found.way_down == (EIGHT, HALF)
    assert [each.before_ms for each in found.tried] == [20.0, 10.0]


@pytest.mark.parametrize(
    ("half", "words", "failed"),
    [
        (Fake("half", [20.0, 19.5]), "tensorrt fp16 is not faster here: 20 against eager's 20 ms", ""),
        (Fake("half", [1.0], Near(0.95, 0.01)), "differ from eager's: likeness 0.950", ""),
        (Fake("half", [1.0], Near(0.99, 0.07)), "distance 0.070", ""),
        (Fake("half", [1.0], Near(float("nan"), 0.01)), "likeness nan", ""),
        (ModelError("TensorRT is not here"), "tensorrt fp16 failed: TensorRT is not here", "not here"),
        (torch.OutOfMemoryError("no memory\nat all"), "tensorrt fp16 failed: no memory", "no memory"),
        (Fake("half", [1.0], RuntimeError("a kernel failed")), "a kernel failed", "a kernel failed"),
    ],
)
def test_a_rung_that_is_no_better_is_named_and_the_next_is_tried(half, words, failed):
    found = climbed({BASE: Fake("base", [20.0]), HALF: half, EIGHT: Fake("eight", [10.0])})
    assert found.rung == EIGHT
    assert words in found.tried[0].why
    assert found.tried[1].why.endswith("10.0 against eager's 20 ms a frame")
    assert (failed in found.failed) if failed else not found.failed
    assert found.way_down == (EIGHT,)


def test_where_nothing_is_better_it_says_why_and_stays():
    found = climbed({BASE: Fake("base", [20.0]), HALF: ModelError("no"), EIGHT: Fake("eight", [30.0])})
    assert (found.rung, found.way_down) == (BASE, (BASE,))
    assert found.why == "tensorrt fp16 failed: no; tensorrt fp8 is not faster here: 30 against eager's 20 ms a frame"


def test_a_precision_is_tried_with_the_kernels_that_were_best():
    own, summed = Rung("eager", "auto", "triton"), Rung("eager", "fp16-accumulate", "kept")
    for ms, kernels in ((15.0, "triton"), (30.0, "")):
        after = Rung("eager", "fp16-accumulate", kernels)
        painters = {BASE: Fake("base", [20.0]), own: Fake("own", [ms]), after: Fake("after", [10.0])}
        closed: list[str] = []
        for each in painters.values():
            each._closed = closed
        assert climb(BASE, (own, summed), painters.__getitem__, "a frame", lambda rung: None).rung == after
    assert own.name == "eager own kernels"
    assert after.name == "eager fp16-accumulate"


def test_one_slow_turn_decides_nothing():
    noisy = [10.0] * (TURNS // 2 + 1) + [90.0] * (TURNS // 2)
    assert climbed({BASE: Fake("base", [20.0]), HALF: Fake("half", noisy)}, (HALF,)).rung == HALF


def test_without_a_base_there_is_no_verdict():
    with pytest.raises(ModelError):
        climbed({BASE: ModelError("no weights")})


def test_a_verdict_that_was_stored_comes_back_as_it_was():
    import msgspec

    found = Verdict(HALF, "why", (Tried(HALF, "why", taken=True, ms=1.0),))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found


@pytest.fixture
def spec(model_folder):
    register_model(model_folder())
    return StreamSpec(model="small", width=64, height=64, device="cpu", dtype="fp32", threads=1)


def test_real_networks_climb_from_fp32_to_bf16(spec, monkeypatch):
    """On the processor, with eager's own networks: pictures through the real gate, costs given."""
    costs = {}
    monkeypatch.setattr(Painted, "cost", lambda self: costs[self._stream.nets.dtype])
    half = Rung("eager", "bf16")
    for ms, words in ((5.0, "2.0 times as fast"), (9.9, "not faster")):
        costs |= {torch.float32: 10.0, torch.bfloat16: ms}
        found = judge.judge(spec, [half])
        assert words in found.why
        assert (found.rung == half) == (ms == 5.0)
        assert found.tried[0].likeness > LIKENESS
        assert 0 < found.tried[0].distance < DISTANCE
    real = judge._nets

    def broken(spec, rung, *rest):
        """bf16 that paints something else."""
        nets = real(spec, rung, *rest)
        return replace(nets, decode=lambda z: nets.decode(z) * 0.3) if rung == half else nets

    monkeypatch.setattr(judge, "_nets", broken)
    costs |= {torch.bfloat16: 1.0}
    found = judge.judge(spec, [half, Rung("tensorrt", "fp16")])
    assert found.rung == Rung("eager", "fp32")
    assert "bf16's pictures differ from eager's" in found.tried[0].why
    assert found.tried[1].failed, "there is no card here, or no TensorRT, and that is a sentence"


def test_the_gate_tells_noise_from_another_picture():
    one, two = (torch.from_numpy(p).permute(2, 0, 1)[None] / 127.5 - 1 for p in judge.scenes(128, 128)[:2])
    generator = torch.Generator().manual_seed(1)
    near = one + 0.01 * torch.randn(one.shape, generator=generator)
    assert gate.likeness(one, one) == pytest.approx(1.0)
    assert gate.distance(one, one) == 0.0
    assert gate.likeness(one, near) > 0.9 > gate.likeness(one, two)
    assert gate.distance(one, near) < gate.distance(one, two)
    assert gate.distance(one, two) > 2 * DISTANCE
    from skimage.metrics import structural_similarity

    theirs = structural_similarity(
        *((picture[0] / 2 + 0.5).numpy() for picture in (one, two)),
        channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert gate.likeness(one, two) == pytest.approx(float(theirs), abs=0.02)
