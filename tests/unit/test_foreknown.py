"""What networks make of steps and prompts alone: what diffusers' own make of it, computed only when something of it
changes, and in time for the frame that shows the change."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engines import device as devices
from engines.aheadfile import pack, unpack
from engines.base import Build
from engines.compiled import CompiledEngine
from engines.control import ControlLoader
from engines.eager import EagerEngine, load_modules, load_text, unet_spec
from engines.eagernet import EagerUNet
from engines.emulated import EmulatedMachine
from engines.registry import Registry
from engines.weights import check_folder
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support import loras
from tests.support.controlnets import write_controlnet

SIDE = 64
BUILD = Build(SIDE, SIDE, device="cpu", dtype="fp32")
CPU = torch.device("cpu")
CLOSE = 1e-5
CONTROL = {"control1_on": True, "control1_model": "a"}


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def as_loaded(folder, build: Build = BUILD) -> EagerUNet:
    """diffusers' own network, unchanged."""
    dtype = devices.choose_dtype(build.dtype, CPU)
    found = load_modules(folder, build, check_folder(folder).variants, CPU, dtype)
    text = load_text(folder, build, check_folder(folder).variants, CPU, dtype)
    return EagerUNet(found.unet, dtype, unet_spec(found.latent, text, CPU))


def folder_of(kind: str, model_folder) -> Path:
    return Registry.open().get(kind).folder() if kind == "pocket" else model_folder(kind)


@pytest.fixture
def stream(model_folder, tmp_path) -> Iterator[Callable[..., DiffusionStream]]:
    made: list[DiffusionStream] = []

    def new(kind: str = "sd15", machine: EmulatedMachine | None = None, ahead: bool = True) -> DiffusionStream:
        folder = folder_of(kind, model_folder)
        nets = (CompiledEngine(machine) if machine else EagerEngine()).load(folder, BUILD)
        path = tmp_path / kind
        if kind == "pocket":
            path = Registry.open().controlnet("pocket-edge").folder()
        elif not path.exists():
            write_controlnet(path, folder)
        load = nets.load_control
        if not ahead:
            nets = dataclasses.replace(nets, unet=as_loaded(folder), loras=None)
            load = ControlLoader(nets.latent, nets.text.spec.outputs, nets.residuals, CPU, torch.float32)
        nets.controlnets["a"] = load(path)
        made.append(DiffusionStream(nets, (SIDE, SIDE), Params(), clock=lambda: 0.0))
        return made[-1]

    yield new
    for each in made:
        each.close()


# What diffusers makes of it


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl", "lcm", "pocket"])
@torch.inference_mode()
def test_a_denoiser_paints_what_it_painted_before(kind, model_folder):
    folder = folder_of(kind, model_folder)
    ours, theirs = EagerEngine().load(folder, BUILD).unet, as_loaded(folder)
    assert ours.ahead is not None
    assert theirs.ahead is None
    text = [noise(n, 2, *spec.shape[1:]) for n, spec in enumerate(ours.spec.inputs[2:])]
    guidance = torch.tensor(3.5) if kind == "lcm" else None
    for rows, t in ((1, 999.0), (2, 20.0)):
        x, cond = noise(9, rows, *ours.spec.inputs[0].shape[1:]), [part[:rows] for part in text]
        wanted = theirs(x, torch.tensor(t), cond, guidance)
        assert (ours(x, torch.tensor(t), cond, guidance) - wanted).abs().max() <= CLOSE
        known = ours.ahead(torch.tensor(t), cond, guidance)
        assert (ours(x, torch.tensor(-1.0), cond, known=known) - wanted).abs().max() <= CLOSE
    assert wanted.std() > 0.01


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "lcm", "pocket"])
@torch.inference_mode()
def test_what_computes_it_can_be_kept_without_the_network(kind, model_folder):
    """For compiled networks: all keys and values in one piece, of which the network's own are parts."""
    theirs = EagerEngine().load(folder_of(kind, model_folder), BUILD).unet
    facts, content = pack(theirs.ahead)
    ours = unpack(json.loads(json.dumps(facts)), memoryview(bytearray(content)), CPU)
    assert (ours.pooled, ours.guided) == (theirs.ahead.pooled, theirs.ahead.guided)
    cond = [noise(n, 2, *spec.shape[1:]) for n, spec in enumerate(theirs.spec.inputs[2:])]
    for t in (20.0, 980.0):
        found, want = (ahead(torch.tensor(t), cond, torch.tensor(2.5)) for ahead in (ours, theirs.ahead))
        assert torch.equal(found.time, want.time)
        for pair, others in zip(theirs.ahead.views(found.text[0][0]), want.text, strict=True):
            assert all(map(torch.equal, pair, others))
    layers, changes = dict(theirs.net.named_modules()), ours.version()
    assert all(torch.equal(weight, layers[path].weight) for path, weight in ours.layers.items())
    path = next(path for path in ours.layers if path.endswith("attn2.to_v"))
    ours.take({path: 2.0 * layers[path].weight})
    assert ours.version() > changes
    assert not torch.equal(ours.reads(cond[0]), theirs.ahead.reads(cond[0]))


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "pocket"])
@torch.inference_mode()
def test_so_does_a_control_net(kind, stream):
    ours, theirs = (stream(kind, ahead=ahead).nets.controlnets["a"] for ahead in (True, False))
    assert theirs.ahead is None
    cond = [noise(n, 2, *spec.shape[1:]) for n, spec in enumerate(ours.spec.inputs[2:])]
    x, hint = noise(9, 2, *ours.spec.inputs[0].shape[1:]), noise(8, 1, 3, SIDE, SIDE).sigmoid()
    t = torch.tensor(420.0)
    found = ours(x, torch.tensor(0.0), cond, ours.embed(hint), known=ours.ahead(t, cond))
    for one, other in zip(found, theirs(x, t, cond, theirs.embed(hint)), strict=True):
        assert (one - other).abs().max() <= CLOSE
    assert found[-1].std() > 0.001


WALK = [
    {}, {"strength": 0.9}, {"strength": 0.3, "steps": 2}, {"guidance_mode": "full", "guidance": 3.0},
    {"guidance_mode": "full", "prompt": "ink"}, {**CONTROL, "prompt": "ink"}, {**CONTROL, "prompt": "gold"},
    {"prompt": "ink"}, {**CONTROL, "prompt": "ink", "steps": 3, "sampler": "lcm"},
    {"guidance_mode": "onetime", "negative": "neon"},
    {"bypass": True, "prompt": "gold"}, {"guidance_mode": "full", "prompt": "gold", "negative": "ink"},
]  # fmt: skip
WALK = [{"control1_model": "a", **values} for values in WALK]
"""Ways of what a frame needs, and of what has changed since it was needed last."""


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "lcm"])
def test_a_show_of_changes_is_painted_as_without(kind, stream):
    streams = stream(kind), stream(kind, ahead=False)
    for n, values in enumerate(WALK):
        for each in streams:
            each.tune(Params(**values))
        ours, theirs = (each(frame(n), Params(**values)).astype(int) for each in streams)
        assert np.abs(ours - theirs).max() <= 1, values


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_so_it_is_where_frames_are_recorded(kind, stream):
    machine = EmulatedMachine()
    streams = stream(kind, machine), stream(kind)
    for n, values in enumerate([*WALK, *reversed(WALK)]):
        for each in streams:
            each.tune(Params(**values))
        ours, theirs = (each(frame(n), Params(**values)) for each in streams)
        assert np.array_equal(ours, theirs), (n, values)
    assert streams[0].painter.failed == ""
    assert streams[0].painter.records == 6


# Only when it changes


def counted(stream: DiffusionStream, net: object = None) -> Counter[str]:
    """Counts what is computed ahead for the denoiser, or `net`."""
    ahead, calls = (net or stream.nets.unet).ahead, Counter[str]()
    for name in ("times", "reads"):
        run = getattr(ahead, name)

        def count(*given, name=name, run=run):
            calls[name] += 1
            return run(*given)

        setattr(ahead, name, count)
    return calls


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "lcm"])
def test_it_is_computed_once_for_all_steps_when_something_of_it_changes(kind, stream):
    painted = stream(kind)
    calls = counted(painted)
    pooled, guided = kind == "sdxl", kind == "lcm"

    def costs(**values) -> dict[str, int]:
        before = calls.copy()
        painted.tune(Params(**values))
        painted(frame(1), Params(**values))
        return dict(calls - before)

    base = {"steps": 3, "sampler": "lcm", **({} if guided else {"guidance_mode": "full"})}
    assert costs(**base) == {"times": 1, "reads": 1}
    for values in ({}, {"mix": 0.5}, {"seed": 9}, {"feedback": 0.5}):
        assert costs(**base, **values) == {}, values
    assert costs(**base, strength=0.7) == {"times": 1}
    assert costs(**base, strength=0.7, guidance=4.0) == {}, "it isn't the network's, or is not asked for"
    assert costs(**base, strength=0.7, prompt="ink") == ({"reads": 1, "times": 1} if pooled else {"reads": 1})
    if guided:
        assert costs(**base, strength=0.7, prompt="ink", guidance_mode="self", guidance=3.0) == {"times": 1}


def test_a_fade_and_a_ramp_cost_each_frame_no_more_than_one_step_did(stream):
    now = [0.0]
    painted = stream()
    painted.speech.clock = lambda: now[0]
    calls = counted(painted)
    painted(frame(1), Params())
    before = calls.copy()
    painted.prompter.ask("ink", "", 1.0)
    painted.prompter.settle()
    pictures = []
    for n in range(5):
        now[0] = n / 5
        pictures.append(painted(frame(1), Params(prompt="ink", prompt_fade=1.0, strength=0.5 + n / 10, steps=4)).copy())
    assert calls - before == {"times": 5, "reads": 5}
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(pictures))


def test_weights_that_a_lora_changes_are_used_at_once(stream, model_folder, tmp_path):
    painted, folder = stream(), model_folder()
    made = loras.make(folder, 3, layers=loras.CONVS)
    loras.register({"ink": loras.write(tmp_path / "ink.safetensors", loras.kohya(made))})
    calls = counted(painted)
    plain = painted(frame(1), Params()).copy()
    params = Params(lora1_id="ink", lora1_weight=1.0)
    painted.tune(params)
    before = calls.copy()
    changed = painted(frame(1), params).copy()
    assert calls - before == {"times": 1, "reads": 1}
    assert not np.array_equal(changed, plain)
    known = painted.knobs.foreknown.look(painted.nets.unet, 0, torch.zeros(1), painted.knobs)["known"]
    with torch.inference_mode():
        fresh = painted.nets.unet.ahead(painted.knobs.levels.t[0], painted.knobs.positive)
    assert torch.allclose(known.time, fresh.time, atol=CLOSE)
    assert all(torch.allclose(a, b, atol=CLOSE) for a, b in zip(known.text[0], fresh.text[0], strict=True))
    painted.tune(Params())
    assert np.array_equal(painted(frame(1), Params()), plain)


def test_a_frame_that_nobody_prepared_computes_it_for_itself(stream):
    """As a benchmark's, or a test's: it may be slow, and never wrong."""
    from pipelines.img2img import step

    one, other = stream(), stream()
    one(frame(1), Params())
    params, pixels = Params(strength=0.9), torch.from_numpy(frame(2))
    wanted = other(frame(2), params)
    one.state.reset()
    one.turn(params, pixels.shape)
    assert one.knobs.foreknown.look(one.nets.unet, 0, torch.zeros(1), one.knobs) == {}
    assert np.abs(step(pixels, one.knobs, one.state, one.nets).numpy().astype(int) - wanted).max() <= 1


def test_what_is_kept_goes_with_its_network(stream):
    painted = stream()
    painted(frame(1), Params(**CONTROL))
    assert len(painted.knobs.foreknown._kept) == 2
    painted(frame(1), Params())
    painted.nets.controlnets.clear()
    gc.collect()
    assert [kept.net() for kept in painted.knobs.foreknown._kept.values()] == [painted.nets.unet, None]
