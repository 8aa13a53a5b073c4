"""torch's compiler on a real card, as a show has it done: its pictures, in a recorded graph, with weights that move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engines import compiler
from engines.base import Build
from engines.compiled import compiled
from engines.cuda_machine import CudaMachine
from engines.eager import EagerEngine
from engines.inductor import with_inductor
from engines.inductor_order import FIRST, inputs
from engines.registry import Registry
from pipelines import gate
from pipelines.ladder import DISTANCE, LIKENESS
from pipelines.params import Params
from pipelines.stream import DiffusionStream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card"),
    pytest.mark.skipif(bool(compiler.missing(cuda=True)), reason="no C++ compiler, or no Triton"),
]
SIDE = 256
BUILD = Build(SIDE, SIDE, device="cuda", dtype="fp16")
FRAME = np.kron(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), np.ones((16, 16, 1), np.uint8))


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Recorded eager, and the same compiled, over the same weights."""
    folder = Registry.open().get("pocket").folder()
    plain = compiled(EagerEngine().load(folder, BUILD), CudaMachine(torch.device("cuda")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVELATENT_HOME", str(tmp_path_factory.mktemp("home")))
        return plain, with_inductor(plain, folder, BUILD, [FIRST])


def test_it_is_captured_and_played_and_paints_eagers_pictures(nets):
    pictures = []
    for each in nets:
        stream = DiffusionStream(each, (SIDE, SIDE), Params(prompt="neon"))
        try:
            for _ in range(4):
                stream(FRAME, Params(prompt="neon"))
            assert stream.painter.failed == ""
            assert stream.painter.records == 1
            pictures.append(stream.state.picture.float().cpu().clone())
        finally:
            stream.close()
    assert pictures[0].std() > 0.1
    assert gate.likeness(*pictures) >= LIKENESS
    assert gate.distance(*pictures) <= DISTANCE


@torch.inference_mode()
def test_a_graph_that_holds_it_sees_weights_that_move(nets):
    plain, fast = nets
    package, given = fast.unet.packages[FIRST], list(inputs(fast, FIRST).values())
    before = package(given)[0].clone()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = package(given)[0]
    graph.replay()
    torch.cuda.synchronize()
    assert torch.allclose(out, before, atol=1e-3)
    bias = plain.unet.net.conv_out.bias
    bias.add_(0.5)
    try:
        graph.replay()
        torch.cuda.synchronize()
        assert torch.allclose(out, before + 0.5, atol=1e-2)
    finally:
        bias.sub_(0.5)
