"""The denoiser by torch's compiler: eager's pictures whatever a call is made of, weights that move, code that is loaded
only if it was sealed, no compiler beside the frames, and a sentence where it can't be had.

One structure is compiled for all tests here (some 12 s of processor time), all of them where slow tests run. What goes
where is tested for all structures by what is traced, uncompiled.
"""

from __future__ import annotations

import builtins
import dataclasses
import itertools
import shutil
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

from engines import compiler, errand, inductor, inductor_order
from engines.base import Build
from engines.cache import EngineCache
from engines.compiled import compiled
from engines.eager import EagerEngine
from engines.emulated import EmulatedMachine
from engines.errors import ModelError
from engines.given import Deep
from engines.inductor_build import Call, _cond
from engines.inductor_order import EVERY, FIRST, Structure, inputs, kind, names_of, structures
from engines.inductor_package import Package
from engines.registry import Registry
from pipelines.judge import judge
from pipelines.ladder import Rung
from pipelines.params import Params
from pipelines.spec import StreamSpec
from pipelines.stream import DiffusionStream
from tests.support import loras
from tests.support.controlnets import write_controlnet
from tests.support.toys import register_model

SIDE = 64
BUILD = Build(SIDE, SIDE, device="cpu", dtype="fp32", threads=1)
CLOSE = 1e-3
needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or bool(compiler.missing(cuda=False)), reason="no C++ compiler here: g++"
)


@pytest.fixture(autouse=True, scope="module")
def quick():
    """What is compiled here is compiled in half the time, without a processor's wide registers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"cpp.vec_isa_ok": False, "aot_inductor.compile_wrapper_opt_level": "O0"}.items():
            patch.setitem(inductor_order.OPTIONS, name, value)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory, model_folder):
    """A home in which the first structure has been compiled."""
    home = tmp_path_factory.mktemp("compiled")
    (home / "engines").mkdir()
    (home / "engines" / "key").write_bytes(bytes(range(32)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVELATENT_HOME", str(home))
        inductor.here(load(model_folder()), [FIRST], EngineCache("inductor"))
    return home


@pytest.fixture
def here(built, tmp_path, monkeypatch):
    """A copy of it, which a test may spoil; nothing may be compiled."""
    home = tmp_path / "home"
    shutil.copytree(built, home)
    monkeypatch.setenv("LIVELATENT_HOME", str(home))
    monkeypatch.setattr(inductor, "send", lambda *_: pytest.fail("it was compiled again"))
    return home


def load(folder):
    return EagerEngine().load(folder, BUILD)


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def asked(nets, rows=1):
    generator = torch.Generator().manual_seed(rows)
    cond = [torch.randn(rows, *spec.shape[1:], generator=generator) for spec in nets.text.spec.outputs]
    return torch.randn(rows, *nets.latent, generator=generator), torch.tensor(400.0), cond


class Counted:
    """A package, and how often it ran."""

    def __init__(self, package):
        self._package, self.runs = package, 0

    def fits(self, given):
        return self._package.fits(given)

    def __call__(self, given):
        self.runs += 1
        return self._package(given)


class Traced:
    """What would be compiled, as it is. Takes for granted what compiled code does."""

    def __init__(self, nets, structure):
        self._call = Call(nets.unet, structure, _cond(nets, structure.rows))
        self._inputs = [kind(x) for x in inputs(nets, structure).values()]

    def fits(self, given):
        return [kind(x) for x in given] == self._inputs

    def __call__(self, given):
        found = self._call(*given)
        return list(found) if isinstance(found, tuple) else [found]


def counted(nets, packages):
    unet = inductor.InductorUNet(nets.unet, {key: Counted(each) for key, each in packages.items()}, nets.aside)
    return dataclasses.replace(nets, unet=unet)


# Compiled


@needs_compiler
def test_compiled_it_paints_eagers_pictures_and_a_lora_acts_at_once(here, model_folder, tmp_path):
    folder = model_folder()
    loras.register({"ink": loras.write(tmp_path / "ink.safetensors", loras.kohya(loras.make(folder, 3)))})
    plain, made = load(folder), inductor.with_inductor(load(folder), folder, BUILD, [FIRST])
    assert made.described.endswith("inductor")
    fast = counted(dataclasses.replace(made, unet=made.unet.plain), made.unet.packages)
    streams = [DiffusionStream(nets, (SIDE, SIDE), Params(), clock=lambda: 0.0) for nets in (plain, fast)]
    modes = [{}, {"lora1_id": "ink", "lora1_weight": 0.9}, {"lora1_id": "ink", "lora1_weight": 0.2}, {"steps": 3}]
    seen = []
    try:
        for values in [*modes, {"guidance_mode": "full"}]:
            for stream in streams:
                stream.tune(Params(**values))
            before = fast.unet.packages[FIRST].runs
            for stream in streams:
                stream(frame(1), Params(**values))
            ran = fast.unet.packages[FIRST].runs - before
            assert ran == (0 if "guidance_mode" in values else values.get("steps", Params().steps)), values
            one, other = (stream.state.picture for stream in streams)
            assert (one - other).abs().max() <= CLOSE, values
            seen.append(one.clone())
        assert min(float((a - b).abs().max()) for a, b in itertools.pairwise(seen[:3])) > 0.05
    finally:
        for stream in streams:
            stream.close()


@needs_compiler
@torch.inference_mode()
def test_no_weight_is_written_into_the_code(here, model_folder):
    """Not even one of four numbers, which a compiler would take for a constant; and none is there twice."""
    folder = model_folder()
    fast = inductor.with_inductor(load(folder), folder, BUILD, [FIRST])
    package, given = fast.unet.packages[FIRST], list(inputs(fast, FIRST).values())
    before = package(given)[0]
    plain = fast.unet.plain
    plain.net.conv_out.bias.add_(0.5)
    assert torch.allclose(package(given)[0], before + 0.5, atol=1e-5)
    generator = torch.Generator().manual_seed(2)
    for weight in plain.net.parameters():
        weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    want = Traced(dataclasses.replace(fast, unet=plain), FIRST)(given)[0]
    assert (want - before).abs().max() > 0.1
    assert (package(given)[0] - want).abs().max() <= 1e-4


@needs_compiler
def test_loading_asks_for_no_compiler_and_lets_weights_go_again(here, model_folder, monkeypatch):
    nets = load(model_folder())
    names, asked_for, run = names_of(nets, (FIRST,)), [], builtins.__import__

    def spy(name, *more, **named):
        asked_for.append(name)
        return run(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", spy)
    fast = inductor.adopted(nets, names, EngineCache("inductor"))
    with torch.inference_mode():
        fast.unet(*asked(nets))
    monkeypatch.undo()
    monkeypatch.setenv("LIVELATENT_HOME", str(here))
    heavy = "torch._dynamo", "torch._inductor", "torch.export", "engines.inductor_build"
    assert not [name for name in asked_for if name.startswith(heavy)]
    entry = EngineCache("inductor").get(names[FIRST.name], apart=True)
    weights = inductor._weights(nets.unet, FIRST)
    held = weights["net.conv_in.weight"].numpy().copy()
    gone, last = weakref.ref(held), fast.unet.packages[FIRST]
    mine = torch.from_numpy(held).contiguous(memory_format=torch.channels_last)
    weights["net.conv_in.weight"] = torch.from_numpy(held).as_strided(mine.shape, mine.stride())
    package = Package(entry.content, entry.notes, weights)
    with torch.inference_mode():
        assert torch.isfinite(package(list(inputs(nets, FIRST).values()))[0]).all()
    del held, weights
    assert gone() is not None
    del package
    assert gone() is None
    with torch.inference_mode():
        assert torch.isfinite(last(list(inputs(nets, FIRST).values()))[0]).all()


@needs_compiler
def test_what_is_not_sealed_is_not_loaded_but_compiled_again(here, model_folder, monkeypatch):
    folder, nets, opened, orders = model_folder(), load(model_folder()), [], []
    file = EngineCache("inductor").folder / f"{names_of(nets, (FIRST,))[FIRST.name]}.sealed"
    good = file.read_bytes()
    spoiled = bytearray(good)
    spoiled[-1000] ^= 1
    file.write_bytes(spoiled)
    monkeypatch.setattr("engines.inductor_package._opened", lambda content: opened.append(content))

    def send(module, order, *_):
        orders.append((module, order))
        return errand.Ended(0, "")

    monkeypatch.setattr(inductor, "send", send)
    with pytest.raises(ModelError, match="could not be read back"):
        inductor.with_inductor(nets, folder, BUILD, [FIRST])
    assert not opened
    assert orders[0][0] == "engines.inductor_build"
    assert b"whole-1" in orders[0][1]
    monkeypatch.undo()
    monkeypatch.setenv("LIVELATENT_HOME", str(here))
    monkeypatch.setattr(inductor, "send", lambda *_: (file.write_bytes(good), errand.Ended(0, ""))[1])
    assert FIRST in inductor.with_inductor(nets, folder, BUILD, [FIRST]).unet.packages


@needs_compiler
def test_other_weights_than_it_was_made_for_are_refused(here, model_folder):
    nets = load(model_folder())
    entry = EngineCache("inductor").get(names_of(nets, (FIRST,))[FIRST.name], apart=True)
    for change in (lambda w: w.to(torch.float16), lambda w: w[:-1], lambda w: w.contiguous()):
        weights = inductor._weights(nets.unet, FIRST)
        weights["net.conv_in.weight"] = change(weights["net.conv_in.weight"])
        with pytest.raises(ModelError, match=r"other weights than net\.conv_in\.weight"):
            Package(entry.content, entry.notes, weights)


@needs_compiler
def test_it_is_a_rung_like_any(here, model_folder):
    register_model(model_folder())
    spec = StreamSpec(model="small", width=SIDE, height=SIDE, engine="auto", device="cpu", dtype="fp32", threads=1)
    told = []
    found = judge(spec, [Rung("eager", "fp32", "inductor")], lambda *news: told.append(news[0]))
    (tried,) = found.tried
    assert told == ["trying eager fp32 inductor"]
    assert not tried.failed, tried.why
    assert tried.likeness > 0.999
    assert tried.ms > 0


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["pocket", pytest.param("sdxl", marks=pytest.mark.full)])
def test_compiled_in_every_structure_it_computes_what_eager_does(kind, model_folder):
    folder = Registry.open().get(kind).folder() if kind == "pocket" else model_folder(kind)
    told = []
    fast = inductor.with_inductor(load(folder), folder, BUILD, tell=lambda *news: told.append(news))
    assert told == [(f"building inductor: {each.name}", n / len(EVERY)) for n, each in enumerate(EVERY)]
    assert set(fast.unet.packages) == set(EVERY)
    plain = dataclasses.replace(fast, unet=fast.unet.plain)
    compare(plain, counted(plain, fast.unet.packages), EVERY)


# Traced


@torch.inference_mode()
def compare(plain, fast, wanted):
    for structure in wanted:
        x, t, cond = asked(plain, structure.rows)
        guidance = torch.tensor(3.0) if plain.takes_guidance else None
        count = len(plain.residuals) if structure.part != "outer" else plain.outer.residuals
        adds = [torch.randn(structure.rows, *shape) for shape in plain.residuals[:count]] if structure.adds else ()
        found = []
        for nets in (plain, fast):
            deep = None
            if structure.part != "whole":
                kept = torch.ones(structure.rows, *plain.outer.state)
                deep = Deep(kept, fresh=structure.part == "deep")
            found.append((nets.unet(x, t, cond, guidance, adds, None, deep), deep.kept if deep else x))
        assert fast.unet.packages[structure].runs == 1, structure
        for one, other in zip(*found, strict=True):
            assert (one - other).abs().max() <= CLOSE, structure


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "lcm"])
def test_every_structure_goes_where_it_was_made_for(kind, model_folder):
    plain = load(model_folder(kind))
    assert structures(plain) == EVERY
    compare(plain, counted(plain, {each: Traced(plain, each) for each in EVERY}), EVERY)


def test_a_call_that_was_not_compiled_is_done_as_before(model_folder):
    plain = load(model_folder())
    fast = counted(plain, {FIRST: Traced(plain, FIRST)})
    with torch.inference_mode():
        for rows, more in ((3, ()), (2, ()), (1, [torch.randn(1, *shape) for shape in plain.residuals])):
            x, t, cond = asked(plain, rows)
            want = plain.unet(x, t, cond, residuals=more)
            assert torch.allclose(fast.unet(x, t, cond, residuals=more), want, atol=1e-5)
            known = fast.unet.ahead(t, cond)
            assert torch.allclose(fast.unet(x, t, cond, residuals=more, known=known), want, atol=1e-5)
        x, t, cond = asked(plain)
        longer = [torch.cat([cond[0], cond[0]], 1)]
        assert torch.allclose(fast.unet(x, t, longer), plain.unet(x, t, longer), atol=1e-5)
    assert fast.unet.packages[FIRST].runs == 0


def test_recorded_with_control_nets_they_are_joined_before_it(model_folder, tmp_path):
    """Over the emulation, which fails where what another stream made is used before it was waited for."""
    folder = model_folder()
    path = write_controlnet(tmp_path / "a", folder)
    plain, recorded = load(folder), compiled(load(folder), EmulatedMachine())
    fast = counted(recorded, {each: Traced(recorded, each) for each in EVERY})
    for nets in (plain, fast):
        nets.controlnets["a"] = nets.load_control(path)
    streams = [DiffusionStream(nets, (SIDE, SIDE), Params(), clock=lambda: 0.0) for nets in (plain, fast)]
    base = {"control1_model": "a", "control1_on": True}
    try:
        for values in (base, {**base, "guidance_mode": "full"}, {**base, "reuse_deep": 2}):
            for n in range(4):
                params = Params(**values, strength=0.4 + n / 50)
                for stream in streams:
                    stream.tune(params)
                wanted, found = (stream(frame(1), params).astype(int) for stream in streams)
                assert np.abs(wanted - found).max() <= 1, values
        assert streams[1].painter.failed == ""
        ran = {each.name for each, package in fast.unet.packages.items() if package.runs}
        assert ran >= {"whole-1-adds", "whole-2-adds", "deep-1-adds", "outer-1-adds"}
    finally:
        for stream in streams:
            stream.close()


# Around it


def test_names_know_of_all_but_weights(model_folder):
    nets = load(model_folder())
    name = names_of(nets, (FIRST,))
    with torch.inference_mode():
        nets.unet.net.conv_in.weight.add_(1.0)
    assert names_of(nets, (FIRST,)) == name
    assert len(set(names_of(nets, EVERY).values())) == len(EVERY)
    small = EagerEngine().load(model_folder(), dataclasses.replace(BUILD, width=128))
    half = EagerEngine().load(model_folder(), dataclasses.replace(BUILD, dtype="bf16"))
    others = [names_of(each, (FIRST,)) for each in (small, half, load(model_folder("lcm")))]
    assert len({each[FIRST.name] for each in (name, *others)}) == 4


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (errand.Ended(1, "inductor can't be had: no CUDA headers"), "can't be had: no CUDA headers"),
        (errand.Ended(-11, "Segmentation fault"), r"compiler ended its process \(-11: Segmentation"),
        (errand.Ended(0, ""), "could not be read back"),
    ],
)
def test_what_goes_wrong_in_its_process_is_a_sentence(ended, words, model_folder, monkeypatch):
    monkeypatch.setattr(inductor, "missing", lambda cuda: "")
    monkeypatch.setattr(inductor, "send", lambda *_: ended)
    with pytest.raises(ModelError, match=words):
        inductor.with_inductor(load(model_folder()), model_folder(), BUILD)


def test_called_off_or_without_a_compiler_eager_goes_on(model_folder, monkeypatch):
    nets, off = load(model_folder()), threading.Event()
    off.set()
    monkeypatch.setattr(inductor, "missing", lambda cuda: "")
    monkeypatch.setattr(inductor, "send", lambda *_: errand.Ended(1, "the build was called off"))
    with pytest.raises(ModelError, match="called off"):
        inductor.with_inductor(nets, model_folder(), BUILD, cancelled=off)
    monkeypatch.undo()
    monkeypatch.setattr(compiler.shutil, "which", lambda _: None)
    with pytest.raises(ModelError, match=r"inductor can't be had: (there is no C\+\+ compiler|Microsoft's)"):
        inductor.with_inductor(nets, model_folder(), BUILD)


def test_a_denoiser_that_is_built_otherwise_is_refused(model_folder, monkeypatch):
    nets = load(model_folder())
    nets.unet.ahead = None
    with pytest.raises(ModelError, match="built in a way"):
        names_of(nets, (FIRST,))


def test_an_order_that_can_not_be_carried_out_ends_with_a_sentence(tmp_path):
    """The process itself, without a model."""
    order = b'{"folder":"/nowhere","build":{"height":64,"width":64},"names":{},"attention":[],"threads":1}\n'
    command = [sys.executable, "-P", "-m", "engines.inductor_build"]
    done = subprocess.run(command, input=order, capture_output=True, check=False, timeout=300)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert done.stderr.strip()


def test_structures_have_names_of_their_own():
    assert Structure("outer", 2, adds=True).name == "outer-2-adds"
    assert len({each.name for each in EVERY}) == 12
