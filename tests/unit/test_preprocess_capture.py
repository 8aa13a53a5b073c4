"""Every hint, the flow and the networks can be captured in one graph, and follow their thresholds when it is replayed.

The tape stands in for a CUDA graph: see tests/support/tape.py.
"""

from __future__ import annotations

import pytest
import torch

from engines.edgenets import Hed
from engines.hintnets import EdgeNet
from pipelines.preprocess import NETWORK_PREPROCESSORS, PREPROCESSORS
from pipelines.preprocess.flow import flow
from pipelines.preprocess.warp import confidence, consistency, warp
from tests.support.tape import Tape


def picture(seed: int, size: int = 72) -> torch.Tensor:
    """Blobs, so that there are edges of every strength."""
    noise = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (size, size), mode="bicubic").sigmoid()


def edge_net() -> EdgeNet:
    """Untrained, with as much of its answer above one half as below, whatever the weights are."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(7)
        hed = Hed((4, 4, 4, 4, 4)).eval()
        sides = [hed.get_submodule(f"block{i}.projection") for i in range(1, 6)]
        for side in sides:
            side.weight *= 20.0
        middle = hed(picture(1)).logit().median()
        for side in sides:
            side.bias -= middle
    return EdgeNet(hed, torch.float32)


def tools():
    net = edge_net()
    bound = [tool.bind(net) for tool in NETWORK_PREPROCESSORS.values() if not tool.beside]
    return [*PREPROCESSORS.values(), *bound]


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: tool.name)
def test_a_captured_hint_follows_picture_and_thresholds(tool) -> None:
    with torch.inference_mode():
        image, low, high = picture(1), torch.tensor(tool.low.default), torch.tensor(tool.high.default)
        tool(image, low, high)
        with Tape() as tape:
            captured = tool(image, low, high)
        first = captured.clone()
        assert first.std() > 0.01, "a blank hint could not follow anything"
        for knob, number in ((tool.low, low), (tool.high, high)):
            number.copy_(torch.tensor(knob.minimum + 0.7 * (knob.maximum - knob.minimum) + 0.13))
        image.copy_(picture(2))
        tape.play()
        assert torch.equal(captured, tool(image, low, high))
        assert not torch.equal(captured, first)


def test_so_do_flow_and_warping() -> None:
    with torch.inference_mode():
        before, now = picture(1, 150), picture(1, 150).roll(2, 3)

        def all_of_it():
            back, ahead = flow(before, now), flow(now, before)
            return warp(before, back), confidence(before, now, back), consistency(back, ahead)

        all_of_it()
        with Tape() as tape:
            captured = all_of_it()
        first = [part.clone() for part in captured]
        before.copy_(picture(3, 150))
        now.copy_(picture(3, 150).roll(-4, 2))
        tape.play()
        for old, mine, again in zip(first, captured, all_of_it(), strict=True):
            assert torch.equal(mine, again)
            assert not torch.equal(mine, old)
