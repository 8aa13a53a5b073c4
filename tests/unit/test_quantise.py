"""Eight bits: torch's rounding is the file's, steps come from what was measured, and small layers stay as they are."""

from __future__ import annotations

import copy
import importlib.util
import math

import pytest
import torch
from torch import nn

from engines import export
from engines.graphs import Graph
from engines.quantise import (
    MOST,
    Range,
    Rounded,
    measured,
    quantise,
    quantise_asymmetric,
    quantise_corrected,
    suits,
    written,
)

needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx is not installed: pip install livelatent[onnx]",
)


class Net(nn.Module):
    """A convolution, then a linear layer over its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.small = nn.Conv2d(16, 32, 3, padding=1), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.small(self.linear(self.conv(x.half()).permute(0, 2, 3, 1))).float()


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Net().half().eval()


X = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def rounded(net, kind):
    with measured(net) as ranges:
        net(X)
    return ranges, quantise(net, kind, ranges)


@needs_onnx
@pytest.mark.parametrize(("kind", "near"), [("fp8", 0.1), ("int8", 0.03)])
@torch.no_grad()
def test_the_file_rounds_as_torch_does(net, kind, near, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    exact = net(X)
    assert rounded(net, kind)[1] == 2
    want = net(X)
    assert 0.001 < float((want - exact).abs().max() / exact.abs().max()) < near
    path = export.write("net", Graph(net, {"x": X}, ("y",)), tmp_path, free=False, opset=20, table=written())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    found = onnxruntime.InferenceSession(str(path), options).run(None, {"x": X.numpy()})[0]
    # not bit for bit: sums in another order let a number fall on the other side of a step here and there
    assert (torch.from_numpy(found) - want).abs().mean() < 0.1 * (want - exact).abs().mean()


def test_steps_are_of_what_came_in_and_what_can_not_be_measured_stays(net):
    with measured(net) as ranges:
        net(X)
        net(3 * X)
    came, seen = ranges["conv"], 3 * X.half()
    assert came == pytest.approx((float(seen.min()), float(seen.max())))
    assert came.most == max(-came.low, came.high)
    quantise(net, "fp8", {**ranges, "linear": Range(0.0, float("inf"))})
    assert float(net.conv.coming) == pytest.approx(came.most / MOST["fp8"], rel=1e-3)
    assert isinstance(net.conv, Rounded)
    assert isinstance(net.linear, nn.Linear)


@torch.no_grad()
def test_asymmetric_steps_lie_where_numbers_come_in():
    """Behind SiLU: half the error, and no range that is not used."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        plain = nn.Sequential(nn.SiLU(), nn.Conv2d(16, 32, 3, padding=1)).eval()
    x = 3 * X
    exact, nets = plain(x), [copy.deepcopy(plain) for _ in range(2)]
    with measured(plain) as ranges:
        plain(x)
    assert -0.28 < ranges["1"].low < -0.2
    assert quantise(nets[0], "int8", ranges) == quantise_asymmetric(nets[1], ranges) == 1
    errors = [float((net(x) - exact).pow(2).mean().sqrt()) for net in nets]
    assert 0.0 < errors[1] < 0.75 * errors[0]
    assert float((nets[1](10 * x) - plain(10 * x)).abs().max()) > 1.0, "what was not seen is held to the range"


@torch.no_grad()
def test_averages_that_rounding_moves_are_given_back():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        convs = [nn.Conv2d(16, 16, 3, padding=1, bias=n != 1) for n in range(3)]
    convs[0].weight[:, 0] *= 40.0  # coarse steps for all other channels of the input
    plain = nn.Sequential(convs[0], nn.SiLU(), convs[1], nn.SiLU(), convs[2]).eval()
    given, nets = [X, 2 * X + 0.3, X.flip(2)], [copy.deepcopy(plain) for _ in range(2)]

    def run(net):
        return [net(x) for x in given]

    with measured(plain) as ranges:
        run(plain)
    assert quantise_asymmetric(nets[0], ranges) == quantise_corrected(nets[1], ranges, lambda: run(nets[1])) == 3
    wanted = torch.stack(run(plain)).mean((0, 1, 3, 4))
    moved, kept = (float((torch.stack(run(net)).mean((0, 1, 3, 4)) - wanted).abs().max()) for net in nets)
    assert kept < 0.35 * moved


@pytest.mark.parametrize(
    ("facts", "most"),
    [
        ({"architecture": "x86_64", "avx2": True}, 63),
        ({}, 63),
        ({"architecture": "x86_64", "avx_vnni": True}, 127),
        ({"architecture": "aarch64"}, 127),
    ],
)
@torch.no_grad()
def test_weights_leave_a_bit_free_where_sums_of_bytes_overflow(facts, most, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: facts, raising=False)
    net = nn.Sequential(nn.SiLU(), nn.Conv2d(16, 32, 3))
    with measured(net) as ranges:
        net(X)
    quantise_asymmetric(net, ranges)
    steps = net[1].layer.weight.flatten(1).abs().amax(1) / net[1].own
    assert torch.allclose(steps, torch.full_like(steps, most))


def test_what_saw_nothing_or_no_number_stays():
    for ranges in ({"1": Range(0.0, 0.0)}, {"1": Range(math.nan, math.nan)}, {"1": Range(-math.inf, 1.0)}):
        net = nn.Sequential(nn.SiLU(), nn.Conv2d(16, 32, 3))
        assert quantise_asymmetric(net, ranges) == quantise(net, "int8", ranges) == 0
    net = nn.Sequential(nn.SiLU(), nn.Conv2d(16, 32, 3))
    with measured(net) as ranges:
        for factor in (1.0, math.nan, 1.0):
            net(factor * X)
    assert math.isnan(ranges["1"].most)


def test_the_ends_of_a_network_and_what_has_no_kernel_are_left_alone(net):
    assert suits("mid.conv", net.conv)
    assert not suits("conv_in", net.conv)
    assert not suits("down.0.time_emb_proj", net.linear)
    assert not suits("small", net.small)
    assert not suits("x", nn.Conv2d(32, 32, 3, groups=32))
