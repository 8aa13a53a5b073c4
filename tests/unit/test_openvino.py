"""The engine openvino: eager's pictures, whatever moves, and nothing compiled twice."""

from __future__ import annotations

import itertools
import sys

import msgspec
import numpy as np
import pytest
import torch

from bridge.sources.scene import draw
from engines import openvino_build
from engines.base import Build, finisher, takes_bytes
from engines.cache import EngineCache
from engines.eager import EagerEngine
from engines.errors import ModelError
from engines.openvino_device import installed, openvino
from engines.registry import Registry
from pipelines import gate
from pipelines.ladder import DISTANCE, LIKENESS
from pipelines.params import Params
from pipelines.prepare import to_bytes
from pipelines.stream import DiffusionStream
from tests.support.controlnets import register, write_controlnet

pytestmark = pytest.mark.skipif(not installed(), reason="openvino is not installed: pip install livelatent[openvino]")

SIDE = 64
FRAME = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
CLOSE = 1e-3


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all tests here: the same network is compiled once."""
    made = EngineCache("openvino")
    made.folder = tmp_path_factory.mktemp("compiled")
    return made


@pytest.fixture
def engine(cache, same_key):
    from engines.openvino import OpenvinoEngine

    return OpenvinoEngine(here=True, cache=cache)


def build(**options):
    return Build(SIDE, SIDE, **{"device": "cpu", "dtype": "fp32", "threads": 1, **options})


def painted(nets, params, frames=1, frame=FRAME):
    """What was painted last, before it became bytes."""
    stream = DiffusionStream(nets, (SIDE, SIDE), params)
    try:
        stream.tune(params)
        for _ in range(frames):
            stream(frame, params)
        return stream.state.picture.clone()
    finally:
        stream.close()


def test_bytes_go_in_and_come_out_as_numbers_do(engine, model_folder):
    nets = engine.load(model_folder("sd15"), build())
    levels = torch.from_numpy(FRAME).permute(2, 0, 1)[None]
    latent = nets.encode(levels / 127.5 - 1.0)
    assert takes_bytes(nets.encode)
    assert (nets.encode(levels) - latent).abs().max() < CLOSE
    finished = finisher(nets.decode)
    assert finished is not None
    image, made, good = finished(3.0 * latent)
    assert good
    assert image.abs().max() <= 1.0
    assert made.shape == (SIDE, SIDE, 3)
    assert (made.int() - to_bytes(image).int()).abs().max() <= 1
    assert made.float().std() > 1
    for bad in (float("nan"), float("inf")):
        latent[0, 0, 1, 1] = bad
        assert not finished(latent).good
        assert not nets.decode(latent).isfinite().any()


WAYS = [
    {"prompt": "neon"},
    {"prompt": "neon", "negative": "ink", "guidance_mode": "full", "guidance": 3.0, "steps": 2, "sampler": "lcm"},
    {"prompt": "ink", "guidance_mode": "onetime", "guidance": 2.0, "steps": 3, "sampler": "ddim", "seed": 5},
    {"prompt": "gold", "mode": "txt2img", "steps": 2},
    {"prompt": "gold", "feedback": 0.5, "noise_mode": "warp"},
    {"prompt": "neon", "reuse_deep": 3, "guidance_mode": "full", "guidance": 3.0, "strength": 0.9, "steps": 2},
]


@pytest.mark.timeout(600)  # two networks are compiled, on a machine that may be busy
@pytest.mark.parametrize(
    "kind", ["sd15", "lcmxl", *(pytest.param(kind, marks=pytest.mark.full) for kind in ("sd21", "sdxl", "lcm"))]
)
def test_its_pictures_are_eagers(engine, kind, model_folder, tmp_path):
    """With every guidance, samplers of several steps, what recurs, and a ControlNet whose weight moves."""
    folder = model_folder(kind)
    register({"hand": write_controlnet(tmp_path / "hand", folder)})
    ours, theirs = engine.load(folder, build()), EagerEngine().load(folder, build())
    unit = {"control1_on": True, "control1_model": "hand", "control1_preprocessor": "none"}
    controlled = [
        {"prompt": "neon", "guidance_mode": "full", "guidance": 2.0, **unit, "control1_weight": weight}
        for weight in (1.0, 0.3)
    ] + [{"prompt": "neon", "reuse_deep": 1, "strength": 0.8, **unit}]
    seen = []
    for values in (*WAYS, *controlled):
        params = Params(**values)
        want = painted(theirs, params, frames=2)
        assert want.std() > 0.02, values
        assert (painted(ours, params, frames=2) - want).abs().max() < CLOSE, values
        seen.append(want)
    assert all((one - two).abs().max() > 10 * CLOSE for one, two in itertools.pairwise(seen))


def test_a_full_autoencoder_and_rows_of_a_prompt(engine, model_folder):
    folder = model_folder("sd15", False)
    ours, theirs = engine.load(folder, build()), EagerEngine().load(folder, build())
    params = Params(prompt="neon", steps=2)
    assert (painted(ours, params) - painted(theirs, params)).abs().max() < CLOSE
    x = torch.randn(2, *ours.latent, generator=torch.Generator().manual_seed(2))
    cond = tuple(torch.cat([a, b]) for a, b in zip(ours.text("ink").cond, ours.text("gold").cond, strict=True))
    t = torch.tensor(300.0)
    with torch.inference_mode():
        both, alone = ours.unet(x, t, cond), ours.unet(x[1:], t, [part[1:] for part in cond])
        assert torch.equal(both[1:], alone)
        assert (both - theirs.unet(x, t, cond)).abs().max() < CLOSE


def test_it_computes_of_step_and_prompt_only_what_changed(engine, model_folder, tmp_path, monkeypatch):
    """The denoiser and a ControlNet; neither looks at the step itself."""
    folder = model_folder("sd15")
    register({"hand": write_controlnet(tmp_path / "hand", folder)})
    ours, theirs = engine.load(folder, build()), EagerEngine().load(folder, build())
    x, t, cond = torch.randn(1, *ours.latent), torch.tensor(300.0), ours.text("ink").cond
    with torch.inference_mode():
        known = ours.unet.ahead(t, cond)
        found = ours.unet(x, torch.tensor(-1.0), cond, known=known)
        assert (found - theirs.unet(x, t, cond)).abs().max() < CLOSE
    params = Params(prompt="neon", control1_on=True, control1_model="hand", control1_preprocessor="none")
    stream, asked = DiffusionStream(ours, (SIDE, SIDE), params), []
    try:
        stream.tune(params)
        stream(FRAME, params)
        for net in (ours.unet, ours.controlnets["hand"]):
            for part in ("times", "reads"):
                real = getattr(net.ahead, part)
                monkeypatch.setattr(
                    net.ahead, part, lambda *told, part=part, real=real: asked.append(part) or real(*told)
                )
        for _ in range(2):
            stream(FRAME, params)
        assert asked == []
        stream(FRAME, msgspec.structs.replace(params, strength=0.9))
        assert asked == ["times"] * 2
    finally:
        stream.close()


def test_a_control_net_computes_of_itself_what_the_outermost_level_takes(engine, model_folder, tmp_path):
    """As much as eager's."""
    folder = model_folder("sd15")
    nets = engine.load(folder, build())
    path = write_controlnet(tmp_path / "hand", folder)
    ours, theirs = nets.load_control(path), EagerEngine().load(folder, build()).load_control(path)
    x, t, cond = torch.randn(2, *nets.latent), torch.tensor(300.0), nets.text("ink").cond
    with torch.inference_mode():
        hint = ours.embed(torch.rand(1, 3, SIDE, SIDE))
        found, want = (net(x, t, cond, hint, outer=True) for net in (ours, theirs))
        assert len(found) == nets.outer.residuals < len(nets.residuals)
        for one, other in zip(found, want, strict=False):
            assert (one - other).abs().max() < CLOSE < other.std()


def test_a_denoiser_of_another_build_is_told_step_and_prompt(model_folder, tmp_path, monkeypatch):
    from engines import ahead
    from engines.openvino import OpenvinoEngine

    own = EngineCache("openvino")
    own.folder = tmp_path
    theirs = EagerEngine().load(model_folder("lcm"), build())
    monkeypatch.setattr(ahead, "foreseeable", lambda net: False)
    ours = OpenvinoEngine(here=True, cache=own).load(model_folder("lcm"), build())
    assert ours.unet.ahead is None
    params = Params(prompt="neon", guidance=3.0, steps=2)
    assert (painted(ours, params) - painted(theirs, params)).abs().max() < CLOSE


def test_pocket_as_shipped(engine):
    folder = Registry.open().get("pocket").folder()
    ours, theirs = engine.load(folder, build()), EagerEngine().load(folder, build())
    params = Params(prompt="neon", strength=0.6)
    want = painted(theirs, params)
    assert want.std() > 0.1
    assert (painted(ours, params) - want).abs().max() < CLOSE


def test_eight_bits_pass_the_gate_and_are_computed_in(engine, cache):
    if "INT8" not in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not multiply int8")
    folder = Registry.open().get("pocket").folder()
    plain = engine.load(folder, build())
    before = {path: path.stat().st_size for path in cache.folder.glob("*.sealed")}
    ours, theirs = engine.load(folder, build(dtype="int8")), EagerEngine().load(folder, build())
    made = [path.stat().st_size for path in cache.folder.glob("*.sealed") if path not in before]
    assert "int8 and" in ours.described
    assert sum(made) < 0.6 * sum(sorted(before.values())[-len(made) :]), "its weights are bytes"
    frame = np.ascontiguousarray(draw(1.0, SIDE, SIDE))
    for values in ({"strength": 0.6}, {"strength": 0.9, "prompt": "ink"}, {"control1_on": True, "steps": 2}):
        params = Params(
            **{"prompt": "neon", "control1_model": "pocket-edge", "control1_preprocessor": "canny", **values}
        )
        want, close, found = (painted(nets, params, frame=frame) for nets in (theirs, plain, ours))
        assert float((found - want).abs().mean()) > 5 * float((close - want).abs().mean()), values
        assert gate.likeness(found, want) > LIKENESS, values
        assert gate.distance(found, want) < DISTANCE, values


def test_without_exact_sums_of_bytes_the_denoiser_is_left_as_it_is(monkeypatch):
    """Its pictures would not pass the gate."""
    rounded = []
    monkeypatch.setattr(openvino_build, "sums_exactly", lambda: False)
    monkeypatch.setattr(openvino_build, "quantise_asymmetric", lambda *given: rounded.append("unet"))
    monkeypatch.setattr(openvino_build, "quantise_corrected", lambda *given: rounded.append("vae"))
    order = openvino_build.Order(Registry.open().get("pocket").folder(), build(dtype="int8"), {"decode": "x"}, [])
    openvino_build._round_denoiser(order, None, None)
    assert rounded == []
    with pytest.raises(ModelError, match="tiny autoencoder alone"):
        openvino_build._round_denoiser(
            msgspec.structs.replace(order, build=build(dtype="int8", vae="full")), None, None
        )


def test_nothing_is_compiled_twice_and_what_changed_is(model_folder, monkeypatch, tmp_path):
    from engines import openvino as module

    folder, own = model_folder(), EngineCache("openvino")
    own.folder = tmp_path
    engine = module.OpenvinoEngine(here=True, cache=own)
    first = engine.load(folder, build())
    orders = []
    real = module.carry_out
    monkeypatch.setattr(module, "carry_out", lambda order, *rest: (orders.append(order), real(order, *rest)))
    again = engine.load(folder, build())
    assert not orders
    params = Params(prompt="ink")
    want = painted(first, params)
    assert torch.equal(painted(again, params), want)
    for file in own.folder.glob("*.sealed"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert torch.equal(painted(engine.load(folder, build()), params), want)
    assert len(orders) == 1, "a broken seal means: compile it again"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"device": "cuda"}, "not on cuda"), ({"device": "mps"}, "not on mps"), ({"dtype": "fp16"}, "fp16")],
)
def test_what_it_can_not_do_gets_a_sentence(engine, options, words, model_folder):
    if options.get("dtype") == "fp16" and "FP16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor multiplies fp16")
    with pytest.raises(ModelError, match=words):
        engine.load(model_folder(), build(**options))


def test_a_foreign_controlnet_gets_a_sentence(engine, model_folder, tmp_path):
    nets = engine.load(model_folder("sd15"), build())
    foreign = write_controlnet(tmp_path / "foreign", model_folder("sdxl"))
    with pytest.raises(ModelError, match="another family"):
        nets.load_control(foreign)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for Python")
def test_a_compiler_that_ends_its_process_ends_that_one_alone(model_folder, monkeypatch, tmp_path):
    from engines.openvino import OpenvinoEngine

    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nkill -SEGV $$\n")
    broken.chmod(0o700)
    monkeypatch.setattr(openvino_build.sys, "executable", str(broken))
    with pytest.raises(ModelError, match="ended its process"):
        OpenvinoEngine().load(model_folder(), build())


def test_its_package_tells_nobody_that_it_is_used():
    openvino()
    assert sys.modules["openvino_telemetry"] is None


def test_torch_has_one_thread_around_it_and_its_own_around_eager(engine, model_folder):
    """As it changes over and back: see Nets.threads."""
    folder, before = model_folder(), torch.get_num_threads()
    torch.set_num_threads(2)
    stream = DiffusionStream(EagerEngine().load(folder, build()), (SIDE, SIDE), Params())
    try:
        seen = []
        for nets in (stream.nets, engine.load(folder, build()), stream.nets):
            stream.adopt(nets)
            stream.handover.plain = nets
            stream(FRAME, Params())
            seen.append(torch.get_num_threads())
        assert seen == [2, 1, 2]
    finally:
        stream.close()
        torch.set_num_threads(before)
