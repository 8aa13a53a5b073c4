"""The engine tensorrt over a strict fake: eager's pictures, nothing compiled twice, and nothing taken on trust."""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript", reason="onnx is not installed: pip install livelatent[onnx]")

from engines import tensorrt_api, tensorrt_build
from engines.base import Build
from engines.cache import EngineCache
from engines.eager import EagerEngine
from engines.errors import ModelError
from engines.tensorrt import TensorrtEngine
from engines.tensorrt_api import Card
from engines.tensorrt_graph import parts, write
from engines.tensorrt_order import Order, model_names
from engines.tensorrt_program import Program
from pipelines import gate
from pipelines.ladder import DISTANCE, LIKENESS
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support import fake_tensorrt, loras
from tests.support.controlnets import register, write_controlnet

SIDE = 64
FRAME = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
CLOSE = 1e-3
CARD = Card(torch.device("cpu"), "a card", (8, 9), "driver 1")


@pytest.fixture
def machine(monkeypatch):
    """A card, with TensorRT on it; whatever no program may do fails the test at its end."""
    made = fake_tensorrt.Machine()
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.make(made))
    monkeypatch.setattr(tensorrt_api, "stream_of", lambda device: made.stream)
    monkeypatch.setattr(tensorrt_build, "timed", lambda plan, notes, card: 1.0)
    tensorrt_api.logger.cache_clear()
    real = torch.Tensor.data_ptr

    def noted(tensor):
        address = real(tensor)
        made.tensors[address] = tensor
        return address

    monkeypatch.setattr(torch.Tensor, "data_ptr", noted)
    yield made
    tensorrt_api.logger.cache_clear()
    assert not made.misuse


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all tests here: the same network is compiled once."""
    made = EngineCache("tensorrt")
    made.folder = tmp_path_factory.mktemp("compiled")
    return made


@pytest.fixture
def engine(machine, cache, same_key):
    return TensorrtEngine(here=True, cache=cache, card=CARD)


def build(**options):
    return Build(SIDE, SIDE, **{"device": "cpu", "dtype": "fp32", "threads": 1, **options})


def painted(nets, params, frames=1):
    """What was painted last, before it became bytes."""
    stream = DiffusionStream(nets, (SIDE, SIDE), params)
    try:
        stream.tune(params)
        for _ in range(frames):
            stream(FRAME, params)
        return stream.state.picture.clone()
    finally:
        stream.close()


WAYS = [
    {"prompt": "neon"},
    {"prompt": "neon", "negative": "ink", "guidance_mode": "full", "guidance": 3.0, "steps": 2, "sampler": "lcm"},
    {"prompt": "ink", "guidance_mode": "onetime", "guidance": 2.0, "steps": 3, "sampler": "ddim", "seed": 5},
    {"prompt": "gold", "feedback": 0.5, "noise_mode": "warp"},
]


@pytest.mark.parametrize("kind", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_its_pictures_are_eagers(engine, kind, model_folder, tmp_path):
    """With every guidance, samplers of several steps, what recurs, and a ControlNet whose weight moves."""
    folder = model_folder(kind)
    register({"hand": write_controlnet(tmp_path / "hand", folder)})
    ours, theirs = engine.load(folder, build()), EagerEngine().load(folder, build())
    assert ours.unet.ahead is not None, "it is told step and prompt in each frame"
    unit = {"control1_on": True, "control1_model": "hand", "control1_preprocessor": "none"}
    controlled = [
        {"prompt": "neon", "guidance_mode": "full", "guidance": 2.0, **unit, "control1_weight": weight}
        for weight in (1.0, 0.3)
    ]
    seen = []
    for values in (*WAYS, *controlled):
        params = Params(**values)
        want = painted(theirs, params, frames=2)
        assert want.std() > 0.02, values
        assert (painted(ours, params, frames=2) - want).abs().max() < CLOSE, values
        seen.append(want)
    assert all((one - two).abs().max() > 10 * CLOSE for one, two in itertools.pairwise(seen))


def test_loras_act_in_it_and_go_without_a_trace(engine, model_folder, tmp_path):
    """Refitted weights are eager's merged ones; where one can't be, eager paints."""
    folder = model_folder()
    made = loras.make(folder, 1, layers=loras.ATTENTION)
    loras.register({"ink": loras.write(tmp_path / "ink.safetensors", loras.kohya(made))})
    stream = DiffusionStream(EagerEngine().load(folder, build()), (SIDE, SIDE), Params())
    alone = DiffusionStream(EagerEngine().load(folder, build()), (SIDE, SIDE), Params())
    fast = stream.handover.fast = engine.load(folder, build())

    def picture(which, weight):
        which.reset()
        params = Params(prompt="neon", lora1_id="ink", lora1_weight=weight)
        which.tune(params)
        which(FRAME, params)
        return which.state.picture.clone()

    try:
        plain = picture(stream, 0.0)
        for weight in (1.0, -0.7, 0.0):
            want = picture(alone, weight)
            assert stream.nets.unet is fast.unet
            assert (picture(stream, weight) - want).abs().max() < CLOSE
            assert weight == 0.0 or (want - plain).abs().max() > 10 * CLOSE
        fast.follow._refit._names.pop(next(path for path in fast.follow._refit._names if "attn1.to_q" in path))
        assert (picture(stream, 0.5) - picture(alone, 0.5)).abs().max() < CLOSE
        assert stream.nets.unet is not fast.unet
        assert (picture(stream, 0.0) - plain).abs().max() < CLOSE
        assert stream.nets.unet is fast.unet
    finally:
        stream.close()
        alone.close()


def test_nothing_is_compiled_twice_and_what_is_not_taken_back_is(engine, machine, cache, model_folder):
    """A broken seal, and an engine of another version under this one's name: that network alone is compiled again."""
    folder = model_folder()
    params = Params(prompt="ink")
    want = painted(engine.load(folder, build()), params)
    decode = engine_name(folder, "decode")
    file = cache.folder / f"{decode}.sealed"
    machine.builds.clear()
    assert torch.equal(painted(engine.load(folder, build()), params), want)
    assert not machine.builds
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert torch.equal(painted(engine.load(folder, build()), params), want)
    assert len(machine.builds) == 1
    entry = cache.get(decode)
    cache.put(decode, entry.notes, bytes(entry.content).replace(b"11.4.0.106", b"11.0.0.114"))
    assert torch.equal(painted(engine.load(folder, build()), params), want)
    assert len(machine.builds) == 2


def test_what_is_recorded_shares_no_working_memory_with_what_runs_beside_it(engine, cache, model_folder, monkeypatch):
    """A frame's graph is played while another mode is warmed up over the same networks."""
    folder, used = model_folder(), []
    engine.load(folder, build())
    program = Program(cache.get(engine_name(folder, "decode")), torch.device("cpu"))
    for kind, runs in (("recorded", program._recorded), ("beside", program._beside)):
        context = runs[1].context
        run = context.execute_async_v3
        context.execute_async_v3 = lambda stream, kind=kind, run=run: used.append(kind) or run(stream)
    program.warm()
    assert used == ["recorded", "beside"], "neither is asked for the first time in a recording"
    program.zeros(1)
    monkeypatch.setattr(tensorrt_api, "recording", lambda device: True)
    program.zeros(1)
    program(torch.zeros(program._recorded[1].inputs[0].shape))
    assert used[2:] == ["beside", "beside", "recorded"]
    assert len({memory.data_ptr() for memory in program._memory}) == 2


def engine_name(folder, part):
    cond = [("hidden", [1, 16, 32])]
    return model_names(folder, build(), "fp32", CARD, cond)[part]


def test_another_card_driver_precision_or_size_has_another_name(machine, model_folder):
    folder, cond = model_folder(), [("hidden", [1, 16, 32])]
    plain = model_names(folder, build(), "fp32", CARD, cond)
    for card, options, precision in (
        (CARD._replace(capability=(9, 0)), {}, "fp32"),
        (CARD._replace(driver="driver 2"), {}, "fp32"),
        (CARD, {}, "fp16"),
        (CARD, {"vae": "full"}, "fp32"),
    ):
        other = model_names(folder, build(**options), precision, card, cond)
        assert not {*plain.values()} & {*other.values()}
    assert plain == model_names(folder, build(), "fp32", CARD, cond)
    sys.modules["tensorrt"].__version__ = "11.5.0"
    assert not {*plain.values()} & {*model_names(folder, build(), "fp32", CARD, cond).values()}


def test_a_build_says_how_far_it_is_and_can_be_called_off(machine, model_folder, tmp_path):
    order, own = codec_order(model_folder()), EngineCache("tensorrt")
    stages = []
    tensorrt_build.carry_out(order, CARD, own, stages.append)
    shares = [stage.share for stage in stages]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-1] == pytest.approx(1.0)
    assert {stage.part for stage in stages} == {"encode", "decode"}
    off = threading.Event()
    for name in order.names.values():
        own.drop(name)

    def stop(stage):
        if stage.share > 0.3:
            off.set()

    with pytest.raises(ModelError, match="called off"):
        tensorrt_build.carry_out(order, CARD, own, stop, off)
    assert not any(own.has(name) for name in order.names.values())


def codec_order(folder):
    names = {"encode": "an-encoder", "decode": "a-decoder"}
    return Order(folder, build(), "fp32", names, [("hidden", [1, 16, 32])])


def test_of_several_builds_the_fastest_is_kept(machine, model_folder, monkeypatch):
    times = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(tensorrt_build, "TRIES", {"decode": 3})
    monkeypatch.setattr(tensorrt_build, "timed", lambda plan, notes, card: next(times))
    plans = []
    real = tensorrt_build.compiled

    def compiled(*args):
        plan, timings = real(*args)
        plans.append((type(plan)(plan + b" " * len(plans)), args[2]))
        return plans[-1][0], timings

    monkeypatch.setattr(tensorrt_build, "compiled", compiled)
    order = codec_order(model_folder())
    part, notes = next((part, notes) for part, notes in parts(order, ["decode"]) if part.name == "decode")
    own = EngineCache("tensorrt")
    with tempfile.TemporaryDirectory() as folder:
        notes |= {"weights": {}, "inputs": list(part.graph.inputs), "outputs": list(part.graph.outputs)}
        path = write(part, Path(folder))
        found = tensorrt_build.best(part, path, notes, CARD, own, lambda *_: None, lambda: False)
        assert found is plans[1][0]
        assert [seen for _, seen in plans] == [b"", b"", b""], "each measures anew"
        times = iter([1.0, 2.0, 3.0])
        tensorrt_build.best(part, path, notes, CARD, own, lambda *_: None, lambda: False)
        assert plans[3][1].endswith(b"measured"), "but for the first, which uses what was measured before"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "fp8", pytest.param("int8", marks=pytest.mark.full)])
def test_fewer_bits_pass_the_gate(engine, model_folder, precision):
    folder = model_folder()
    params = Params(prompt="neon", steps=2)
    ours, theirs = engine.load(folder, build(dtype=precision)), EagerEngine().load(folder, build())
    found, want = painted(ours, params), painted(theirs, params)
    assert (found - want).abs().max() > 0
    assert gate.likeness(found, want) > LIKENESS
    assert gate.distance(found, want) < DISTANCE
    assert (ours.follow is None) == (precision != "fp16"), "what is rounded has no weights to be exchanged"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "fp8", "capability": (8, 6)}, "begins with compute capability 8.9"),
        ({"dtype": "bf16", "capability": (7, 5)}, "begins with compute capability 8.0"),
        ({"dtype": "fp16-accumulate"}, "adds up"),
    ],
)
def test_what_a_card_can_not_do_gets_a_sentence(machine, cache, options, words, model_folder):
    card = CARD._replace(capability=options.pop("capability", CARD.capability))
    with pytest.raises(ModelError, match=words):
        TensorrtEngine(here=True, cache=cache, card=card).load(model_folder(), build(**options))


def test_where_there_is_no_card_or_no_tensorrt_it_says_so(machine, model_folder, monkeypatch):
    with pytest.raises(ModelError, match="there is none here"):
        TensorrtEngine(here=True).load(model_folder(), build())
    machine_module = sys.modules["tensorrt"]
    machine_module.__version__ = "9.3.0"
    with pytest.raises(ModelError, match=r"9\.3\.0 is installed"):
        TensorrtEngine(here=True, card=CARD).load(model_folder(), build())
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ModelError, match="pip install livelatent"):
        TensorrtEngine(here=True, card=CARD).load(model_folder(), build())
