"""Eight bits: torch's rounding is the file's, steps come from what was measured, and small layers stay as they are."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from engines import export
from engines.graphs import Graph
from engines.quantise import MOST, Rounded, measured, quantise, suits, written

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
    with measured(net) as peaks:
        net(X)
    return peaks, quantise(net, kind, peaks)


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
    with measured(net) as peaks:
        net(X)
        net(3 * X)
    assert peaks["conv"] == pytest.approx(float((3 * X.half()).abs().max()))
    quantise(net, "fp8", {**peaks, "linear": float("inf")})
    assert float(net.conv.coming) == pytest.approx(peaks["conv"] / MOST["fp8"], rel=1e-3)
    assert isinstance(net.conv, Rounded)
    assert isinstance(net.linear, nn.Linear)


def test_the_ends_of_a_network_and_what_has_no_kernel_are_left_alone(net):
    assert suits("mid.conv", net.conv)
    assert not suits("conv_in", net.conv)
    assert not suits("down.0.time_emb_proj", net.linear)
    assert not suits("small", net.small)
    assert not suits("x", nn.Conv2d(32, 32, 3, groups=32))
