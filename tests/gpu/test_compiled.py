"""The engine compiled on a real card: eager's pictures, recorded, overlapping, and nothing recorded for a slider."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support import card

from engines.compiled import compiled
from pipelines.params import Params
from pipelines.stream import DiffusionStream

pytestmark = card.MARKS
SIDE, CARD = card.SIDE, card.CARD
MODES = [
    {}, {"mode": "txt2img"}, {"steps": 4, "sampler": "lcm"}, {"guidance_mode": "full", "guidance": 3.0},
    {"feedback": 0.5, "smoothing": 0.3}, {"control1_on": True}, {"control1_on": True, "control2_on": True, "steps": 2},
    {"control1_on": True, "control1_source": "previous_output"}, {"bypass": True},
]  # fmt: skip
NAMED = {"control1_model": "a", "control2_model": "b"}


@pytest.fixture
def streams() -> Iterator[tuple[DiffusionStream, DiffusionStream]]:
    """Eager's, and one whose frames are recorded; of the same networks."""
    nets = card.nets()
    recorded = compiled(nets, card.machine())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    made = DiffusionStream(nets, (SIDE, SIDE), Params()), DiffusionStream(recorded, (SIDE, SIDE), Params())
    yield made
    for stream in made:
        stream.close()


def frame(n: int) -> np.ndarray:
    return np.kron(np.random.default_rng(n).integers(0, 256, (16, 16, 3), np.uint8), np.ones((20, 24, 1), np.uint8))


@pytest.mark.parametrize("mode", MODES)
def test_recorded_pictures_are_eagers(mode, streams):
    eager, fast = streams
    for n in range(6):
        params = Params(**NAMED, **mode, strength=0.3 + n / 10)
        wanted, found = eager(frame(n), params).astype(int), fast(frame(n), params).astype(int)
        assert np.abs(wanted - found).max() <= 1
    assert fast.painter.failed == ""
    assert fast.painter.records == ("bypass" not in mode)
    assert found.std() > 1.0


@pytest.mark.parametrize("mode", MODES[:2] + MODES[4:6])
def test_two_frames_at_once_are_the_same_pictures(mode, streams):
    eager, fast = streams
    params = [Params(**NAMED, **mode, strength=0.2 + n / 40) for n in range(30)]
    wanted = [eager(frame(n), params[n]).astype(int) for n in range(30)]
    found = []
    for n in range(30):
        fast.begin(frame(n), params[n])
        if n:
            found.append(fast.end().astype(int))
    found.append(fast.end().astype(int))
    assert max(np.abs(a - b).max() for a, b in zip(wanted, found, strict=True)) <= 1
