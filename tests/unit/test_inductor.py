"""The denoiser by torch's compiler: eager's pictures, weights that move, code that is loaded only if it was sealed, no
compiler beside the frames.

One structure is compiled for all tests here (some 12 s of processor time), all of them where slow tests run. What goes
where is tested for all structures by what is traced, uncompiled: test_inductor_calls.py.
"""

from __future__ import annotations

import builtins
import dataclasses
import itertools
import shutil
import sys
import weakref

import pytest
import torch

from engines import compiler, errand, inductor, inductor_order
from engines.cache import EngineCache
from engines.errors import ModelError
from engines.inductor_order import CONTROL, EVERY, FIRST, inputs, names_of
from engines.inductor_package import Package
from engines.registry import Registry
from pipelines.judge import judge
from pipelines.ladder import Rung
from pipelines.params import Params
from pipelines.spec import StreamSpec
from pipelines.stream import DiffusionStream
from tests.support import loras
from tests.support.controlnets import write_controlnet
from tests.support.packages import BUILD, CLOSE, SIDE, Traced, asked, compare, counted, frame, load
from tests.support.toys import register_model

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
    assert package.fits(given)
    x, time, text = given
    for other in (x.mT, x.half(), x[:, :3], torch.cat([x, x])):
        assert not package.fits([other, time, text])
    assert not package.fits([x, time, text.repeat(1, 2, 1)])
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
def test_compiled_in_every_structure_it_computes_what_eager_does(kind, model_folder, tmp_path):
    folder = Registry.open().get(kind).folder() if kind == "pocket" else model_folder(kind)
    nets, told = load(folder), []
    path = (
        Registry.open().controlnet("pocket-edge").folder() if kind == "pocket" else write_controlnet(tmp_path, folder)
    )
    plain = nets.controlnets["a"] = nets.load_control(path)
    fast = inductor.with_inductor(nets, folder, BUILD, tell=lambda *news: told.append(news), controls={"a": path})
    order = [*EVERY[:4], *CONTROL, *EVERY[4:]]
    assert told == [(f"building inductor: {each.name}", n / len(order)) for n, each in enumerate(order)]
    control = fast.load_control(path)
    assert set(control.packages) == set(CONTROL)
    for rows in (1, 2):
        x, t, cond = asked(nets, rows)
        with torch.inference_mode():
            hint = plain.embed(torch.rand(1, 3, SIDE, SIDE))
            pairs = zip(plain(x, t, cond, hint), control(x, t, cond, hint), strict=True)
            assert max(float((a - b).abs().max()) for a, b in pairs) <= CLOSE
    assert set(fast.unet.packages) == set(EVERY)
    plain = dataclasses.replace(fast, unet=fast.unet.plain)
    compare(plain, counted(plain, fast.unet.packages), EVERY)
