"""The engine tensorrt on a real card: what the fake can only pretend. Minutes, most of them TensorRT's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engines import tensorrt_api
from engines.base import Build
from engines.eager import EagerEngine
from engines.registry import Registry
from pipelines import gate
from pipelines.ladder import DISTANCE, LIKENESS
from pipelines.params import Params
from pipelines.stream import DiffusionStream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card"),
    pytest.mark.skipif(not tensorrt_api.installed(), reason="TensorRT is not installed"),
]
SIDE = 256
FRAME = np.kron(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
PARAMS = Params(prompt="neon", guidance_mode="full", guidance=2.0, steps=2)


@pytest.fixture(scope="module")
def folder():
    return Registry.open().get("pocket").folder()


def painted(nets, params=PARAMS):
    stream = DiffusionStream(nets, (SIDE, SIDE), params)
    try:
        stream.tune(params)
        stream(FRAME, params)
        return stream.state.picture.float().cpu()
    finally:
        stream.close()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp8"])
def test_its_pictures_pass_the_gate(folder, precision):
    from engines.tensorrt import TensorrtEngine
    from engines.tensorrt_order import FROM

    if torch.cuda.get_device_capability() < FROM.get(precision, (0, 0)):
        pytest.skip(f"this card does not multiply {precision}")
    want = painted(EagerEngine().load(folder, Build(SIDE, SIDE, device="cuda", dtype="fp32")))
    found = painted(TensorrtEngine(here=True).load(folder, Build(SIDE, SIDE, device="cuda", dtype=precision)))
    assert want.std() > 0.1
    assert gate.likeness(found, want) >= LIKENESS
    assert gate.distance(found, want) <= DISTANCE


def test_every_layer_that_a_lora_may_touch_can_be_refitted(folder):
    """If this fails, LoRAs that touch such a layer are painted by eager: see Follow.covers."""
    from engines.tensorrt import TensorrtEngine

    nets = TensorrtEngine(here=True).load(folder, Build(SIDE, SIDE, device="cuda", dtype="fp16"))
    eager = EagerEngine().load(folder, Build(SIDE, SIDE, device="cuda", dtype="fp16"))
    before = painted(nets)
    merger = eager.loras.unet
    known = nets.follow._refit._names.keys()
    missing = merger.layers.keys() - known - nets.unet.ahead.layers.keys()
    assert not missing
    paths = {path for path in known if "attn" in path}
    nets.follow._refit(paths, lambda path: merger.layers[path] * 1.5)
    changed = painted(nets)
    nets.follow._refit(paths, merger.layers.__getitem__)
    assert (changed - before).abs().max() > 0.05
    assert (painted(nets) - before).abs().max() < 0.01


def test_a_captured_graph_holds_its_networks_and_sees_other_weights(folder):
    """One capture of the UNet, played again over other inputs and after a refit: the same as a plain run."""
    from engines.tensorrt import TensorrtEngine

    nets = TensorrtEngine(here=True).load(folder, Build(SIDE, SIDE, device="cuda", dtype="fp16"))
    eager = EagerEngine().load(folder, Build(SIDE, SIDE, device="cuda", dtype="fp16"))
    x = torch.randn(1, *nets.latent, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    t, cond = torch.tensor(500.0, device="cuda"), [part.to("cuda") for part in nets.text("neon").cond]
    with torch.inference_mode():
        nets.unet(x, t, cond)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = nets.unet(x, t, cond)
        x.mul_(0.5)
        graph.replay()
        torch.cuda.synchronize()
        played = out.clone()
        assert torch.allclose(played, nets.unet(x, t, cond), atol=1e-3)
        merger = eager.loras.unet
        paths = {path for path in nets.follow._refit._names if "attn" in path}
        nets.follow._refit(paths, lambda path: merger.layers[path] * 1.5)
        graph.replay()
        torch.cuda.synchronize()
        assert (out - played).abs().max() > 0.01
        assert torch.allclose(out, nets.unet(x, t, cond), atol=1e-3)
