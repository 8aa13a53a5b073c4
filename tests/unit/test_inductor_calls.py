"""What torch's compiler is given, by what is traced and not compiled: every structure of a call goes where it was made
for, and all others where they went before; and a sentence where it can't be had."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest
import torch

from engines import compiler, errand, inductor
from engines.cache import EngineCache
from engines.compiled import compiled
from engines.eager import EagerEngine
from engines.emulated import EmulatedMachine
from engines.errors import ModelError
from engines.inductor_build import _wanted
from engines.inductor_order import CONTROL, EVERY, FIRST, Order, Structure, names_of, structures
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support.controlnets import write_controlnet
from tests.support.packages import BUILD, CLOSE, SIDE, Counted, Traced, asked, compare, counted, frame, load


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "lcm"])
def test_every_structure_goes_where_it_was_made_for(kind, model_folder):
    plain = load(model_folder(kind))
    assert structures(plain) == EVERY
    compare(plain, counted(plain, {each: Traced(plain, each) for each in EVERY}), EVERY)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_control_nets_calls_go_there_too(kind, model_folder, tmp_path):
    nets = load(model_folder(kind))
    plain = nets.load_control(write_controlnet(tmp_path / "a", model_folder(kind)))
    fast = inductor.InductorControlNet(plain, {each: Counted(Traced(nets, each, plain)) for each in CONTROL})
    hint = plain.embed(torch.rand(1, 3, SIDE, SIDE))
    for rows in (1, 2):
        x, t, cond = asked(nets, rows)
        for more in ({}, {"outer": True}, {"known": None}):
            wanted, found = plain(x, t, cond, hint, **more), fast(x, t, cond, hint, **more)
            assert all((a - b).abs().max() <= CLOSE for a, b in zip(wanted, found, strict=True))
        known = fast.ahead(t, cond)
        assert (fast(x, t, cond, hint, known=known)[0] - wanted[0]).abs().max() <= CLOSE
    assert [fast.packages[each].runs for each in CONTROL] == [3, 3]


def test_control_nets_that_a_show_has_are_compiled_with_it_once_for_all_that_are_built_alike(
    model_folder, tmp_path, monkeypatch
):
    folder, nets, orders = model_folder(), load(model_folder()), []
    paths = {name: write_controlnet(tmp_path / name, folder, seed) for seed, name in enumerate("ab")}
    nets.controlnets.update({name: nets.load_control(path) for name, path in paths.items()})
    monkeypatch.setattr(inductor, "missing", lambda cuda: "")
    monkeypatch.setattr(inductor, "send", lambda module, text, *_: (orders.append(text), errand.Ended(0, ""))[1])
    with pytest.raises(ModelError, match="could not be read back"):
        inductor.with_inductor(nets, folder, BUILD, controls={**paths, "gone": tmp_path})
    order = msgspec.json.decode(orders[0], type=Order, dec_hook=lambda kind, value: kind(value))
    (control,) = order.controls
    assert control.folder in paths.values()
    made = [f"{job.structure.name}" for job in _wanted(nets, order)]
    assert made[:6] == ["whole-1", "whole-2", "whole-1-adds", "whole-2-adds", "control-1", "control-2"]
    assert len(made) == len(EVERY) + 2
    assert inductor.controlled(nets, nets.controlnets["a"], EngineCache("inductor")) is nets.controlnets["a"]


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
