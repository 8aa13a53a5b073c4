"""Our own kernels paint what torch paints: interpreted on a processor where triton is installed, by torch where it is
not; in networks of their own over the same weights. That they compile for NVIDIA's cards is checked without one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engines import groupnorm, kernels
from engines.base import Build
from engines.compiled import compiled
from engines.control import EagerControlNet
from engines.eager import EagerEngine
from engines.emulated import EmulatedMachine
from engines.errors import ModelError
from engines.given import Deep, ahead_of
from engines.registry import Registry
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support import loras, norms
from tests.support.controlnets import write_controlnet

ROOT = Path(__file__).parents[2]
SIDE = 64
BUILD = Build(SIDE, SIDE, device="cpu", dtype="fp32")
needs_triton = pytest.mark.skipif(
    bool(groupnorm.missing()), reason=f"{groupnorm.missing()}: `pip install triton` brings it, some 200 MB"
)


def test_without_triton_a_norm_is_torchs():
    assert norms.check(ours=False, loose=4) == 54  # each of its operations rounds


@needs_triton
def test_our_kernels_interpreted_are_torchs():
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.norms"],
        env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=ROOT, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.stdout == "54 are alike\n", done.stderr[-2000:]


@needs_triton
@pytest.mark.parametrize("capability", [75, 80, 89, 90])
def test_the_kernels_compile_for_a_card(capability):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from engines import tritonnorm as ours

    numbers = {"pixels": "i32", "channels": "i32"}
    groups = dict.fromkeys(("found", "lines"), "*fp32") | dict.fromkeys(
        ("weight", "bias", "shift", "scale", "after"), "*fp16"
    )
    jobs = [
        (ours._pieces, {"x": "*fp16", "found": "*fp32", **numbers}, {"ROWS": 64, "COLUMNS": 64}),
        (
            ours._groups,
            {**groups, "rows": "i32", **numbers, "each": "i32", "eps": "fp32"},
            {"pieces": 64, "SHIFTS": True, "SCALES": True, "ROWS": 64, "MANY": 16, "WIDTH": 16},
        ),
        (
            ours._picture,
            {"x": "*fp16", "y": "*fp16", "lines": "*fp32", **numbers},
            {"ACTS": True, "ROWS": 64, "COLUMNS": 64},
        ),
    ]
    for kernel, types, constants in jobs:
        source = ASTSource(
            fn=kernel,
            signature=types | dict.fromkeys(constants, "constexpr"),
            constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
        )
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert f"sm_{capability}" in made.asm["ptx"]


# In networks


@pytest.fixture
def by_torch(monkeypatch):
    """Fused networks without triton: what a network is made of is the same."""
    monkeypatch.setattr(kernels.groupnorm, "missing", lambda: "")
    monkeypatch.setattr(groupnorm, "runs", lambda x, norm: False)


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "lcm", "pocket"])
def test_a_network_with_fused_blocks_is_the_same_network(kind, by_torch, model_folder):
    folder = Registry.open().get(kind).folder() if kind == "pocket" else model_folder(kind)
    plain = EagerEngine().load(folder, BUILD)
    fused = kernels.with_kernels(plain, "triton")
    blocks = [part for part in fused.unet.net.modules() if type(part) is kernels.Fused]
    assert len(blocks) == sum(hasattr(part, "time_emb_proj") for part in plain.unet.net.modules())
    assert not any(type(part) is kernels.Fused for part in plain.unet.net.modules())
    assert ahead_of(fused.unet) is ahead_of(plain.unet)
    weights = zip(plain.unet.net.parameters(), fused.unet.net.parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in weights), "they are there once"
    x, cond = torch.randn(2, *plain.latent), [torch.randn(2, *spec.shape[1:]) for spec in plain.text.spec.outputs]
    with torch.inference_mode():
        one, other = (nets.unet(x, torch.tensor(500.0), cond, torch.tensor(3.0)) for nets in (plain, fused))
        kept = Deep(torch.randn(2, *plain.outer.state), fresh=False)
        parts = [nets.unet(x, torch.tensor(500.0), cond, torch.tensor(3.0), deep=kept) for nets in (plain, fused)]
    assert (one - other).abs().max() <= 1e-5
    assert (parts[0] - parts[1]).abs().max() <= 1e-4, "its outermost level alone"
    assert "own kernels" in fused.described


def test_a_show_with_control_nets_and_loras_goes_over_to_it(by_torch, model_folder, tmp_path):
    folder, machine = model_folder(), EmulatedMachine()
    loras.register({"ink": loras.write(tmp_path / "ink.safetensors", loras.kohya(loras.make(folder, 3)))})
    path = write_controlnet(tmp_path / "a", folder)
    plain = EagerEngine().load(folder, BUILD)
    fast = compiled(EagerEngine().load(folder, BUILD), machine)
    other = dataclasses.replace(kernels.with_kernels(fast, "triton"), follow=lambda _: True)
    for nets in (plain, fast, other):
        nets.controlnets["a"] = nets.load_control(path)
    assert isinstance(other.controlnets["a"], EagerControlNet)
    assert any(type(part) is kernels.Fused for part in other.controlnets["a"].net.modules())
    streams = [DiffusionStream(nets, (SIDE, SIDE), Params(), clock=lambda: 0.0) for nets in (plain, fast)]
    base = {"control1_model": "a", "control1_on": True, "control1_source": "previous_output"}
    values = {**base, "lora1_id": "ink", "lora1_weight": 0.7, "guidance_mode": "full"}
    try:
        for n in range(7):
            if n == 3:
                streams[1].handover.fast = other
                streams[1].nets.controlnets["a"] = other.controlnets["a"]
            for stream in streams:
                stream.tune(Params(**values, strength=0.3 + n / 10))
            wanted, found = (stream(frame(n), Params(**values, strength=0.3 + n / 10)) for stream in streams)
            assert np.abs(wanted.astype(int) - found).max() <= 1
            assert ("own kernels" in streams[1].nets.described) == (n >= 3)
        assert streams[1].painter.failed == ""
    finally:
        for stream in streams:
            stream.close()


def test_kernels_that_can_not_be_had_are_a_sentence(model_folder, monkeypatch):
    nets = EagerEngine().load(model_folder(), BUILD)
    monkeypatch.setattr(kernels.groupnorm, "missing", lambda: "triton is not installed (no)")
    with pytest.raises(ModelError, match="own kernels can't be had: triton is not installed"):
        kernels.with_kernels(nets, "triton")
    monkeypatch.setattr(kernels.groupnorm, "missing", lambda: "")
    monkeypatch.setattr(kernels, "normed", lambda x, *given, **named: x * 0)
    with pytest.raises(ModelError, match="something else"):
        kernels.with_kernels(nets, "triton")
    assert kernels.with_kernels(nets, "") is nets
