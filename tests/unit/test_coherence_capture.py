"""All that runs inside a frame can be captured as one graph, and follows its inputs when the graph is replayed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipelines.coherence.cut import CutDetector
from pipelines.coherence.feedback import feedback, trust
from pipelines.coherence.match import ColourMatch
from pipelines.coherence.noise import MovingNoise, TravellingNoise
from pipelines.coherence.similar import Similarity
from pipelines.coherence.smooth import smooth, stillness
from pipelines.preprocess.warp import warp
from tests.support.tape import Tape

CPU = torch.device("cpu")
SIDE = 64
Frame = Callable[[], tuple[Tensor, ...]]


class Inputs:
    """What a frame is given, at addresses that hold still."""

    def __init__(self) -> None:
        self.source, self.last = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 3, SIDE, SIDE)
        self.flow = torch.zeros(1, 2, SIDE, SIDE)
        self.amount, self.flag = torch.zeros(()), torch.zeros((), dtype=torch.bool)

    def turn(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        for tensor, scale in ((self.source, 1.0), (self.last, 1.0), (self.flow, 3.0)):
            tensor.copy_(scale * (2 * torch.rand(tensor.shape, generator=draw) - 1))
        self.amount.copy_(torch.rand((), generator=draw))
        self.flag.fill_(seed % 5 == 0)


def fed_back(x: Inputs) -> Frame:
    latent, init = torch.rand(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(9))

    def frame() -> tuple[Tensor, ...]:
        known = trust(x.flow, x.last, x.source)
        painted = feedback(x.source, x.last, x.flow, known, x.amount)
        return painted, feedback(init, latent, x.flow, known, x.amount)

    return frame


def smoothed(x: Inputs) -> Frame:
    return lambda: (smooth(x.source, warp(x.last, x.flow), x.amount, stillness(x.last, x.last + 0.1 * x.source)),)


def carried(x: Inputs) -> Frame:
    noise = MovingNoise((2, 4, 8, 8), CPU, cells=2)
    noise.begin(torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), 5)
    return lambda: (noise(x.flow), noise.grains.clone())


def travelling(x: Inputs) -> Frame:
    noise = TravellingNoise((1, 4, 8, 8), CPU)
    noise.begin(5)
    return lambda: noise(x.amount, 2)


def coloured(space: str, method: str) -> Callable[[Inputs], Frame]:
    def make(x: Inputs) -> Frame:
        match = ColourMatch(space, method, CPU)

        def frame() -> tuple[Tensor, ...]:
            match.take(x.last, x.flag | ~match.taken)
            return match(x.source, x.amount), match.reference.clone()

        return frame

    return make


def decided(x: Inputs) -> Frame:
    similar, longest = Similarity((SIDE, SIDE), CPU), torch.tensor(2)
    return lambda: (similar(x.source, x.amount * 400, longest, x.flag), similar.change.clone(), similar.skips.clone())


def detected(x: Inputs) -> Frame:
    detector = CutDetector(CPU)
    smooth_source = torch.nn.AvgPool2d(9, 1, 4)
    return lambda: (detector(smooth_source(x.source) * 3, x.amount * 2), detector.difference.clone())


MADE = {
    "feedback": fed_back,
    "smoothing": smoothed,
    "moving noise": carried,
    "travelling noise": travelling,
    **{f"{s} {m}": coloured(s, m) for s in ("lab", "hsv", "rgb") for m in ("statistics", "histogram")},
    "similarity": decided,
    "cuts": detected,
}


@pytest.mark.parametrize("name", list(MADE))
def test_a_captured_frame_follows_its_inputs_and_its_past(name: str) -> None:
    with torch.inference_mode():
        live, taped = Inputs(), Inputs()
        frame, captured = MADE[name](live), MADE[name](taped)
        live.turn(1)
        taped.turn(1)
        frame()
        captured()
        live.turn(2)
        taped.turn(2)
        expected = frame()
        with Tape() as tape:
            got = captured()
        seen = [[part.clone() for part in got]]
        for n in range(3, 8):
            live.turn(n)
            taped.turn(n)
            assert all(torch.equal(a, b) for a, b in zip(seen[-1], expected, strict=True)), n
            expected = frame()
            tape.play()
            seen.append([part.clone() for part in got])
        assert all(torch.equal(a, b) for a, b in zip(seen[-1], expected, strict=True))
        assert any(not torch.equal(seen[0][0], later[0]) for later in seen[1:])
