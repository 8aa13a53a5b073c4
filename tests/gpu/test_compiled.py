"""The engine compiled on a real card: eager's pictures, recorded, overlapping, and nothing recorded for a slider."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from bridge.frame import Frame
from bridge.lent import LentRing
from bridge.ring import RingReader, RingWriter
from engines.compiled import compiled
from engines.cuda_machine import CudaMachine
from engines.random_nets import random_control, random_nets
from pipelines.params import Params
from pipelines.stream import DiffusionStream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card"),
]
SIDE = 256
CARD = torch.device("cuda")
MODES = [
    {}, {"mode": "txt2img"}, {"steps": 4, "sampler": "lcm"}, {"guidance_mode": "full", "guidance": 3.0},
    {"feedback": 0.5, "smoothing": 0.3}, {"control1_on": True}, {"control1_on": True, "control2_on": True, "steps": 2},
    {"control1_on": True, "control1_source": "previous_output"}, {"bypass": True},
]  # fmt: skip
NAMED = {"control1_model": "a", "control2_model": "b"}


@pytest.fixture
def streams() -> Iterator[tuple[DiffusionStream, DiffusionStream]]:
    """Eager's, and one whose frames are recorded; of the same networks."""
    nets = random_nets("tiny", (SIDE, SIDE), CARD, torch.float32)
    nets = replace(nets, controlnets={name: random_control(nets, seed) for seed, name in enumerate("ab")})
    recorded = compiled(nets, CudaMachine(CARD))
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


def test_a_slider_records_nothing(streams):
    _, fast = streams
    for n in range(200):
        fast(frame(n), Params(strength=0.1 + n / 250, mix=1.0 - n / 400, seed=n // 20))
    assert fast.painter.records == 1


def test_memory_stays_what_it_is(streams):
    _, fast = streams
    for n in range(20):
        fast(frame(n), Params(strength=0.5))
    before = torch.cuda.memory_reserved(CARD)
    for n in range(100):
        fast(frame(n), Params(strength=0.3 + n / 200))
    assert torch.cuda.memory_reserved(CARD) == before


def test_the_card_takes_frames_from_shared_memory_and_puts_pictures_there(streams):
    eager, fast = streams
    with closing(RingWriter.create(1 << 20)) as source, closing(RingWriter.create(1 << 20)) as sink:
        lent = LentRing(sink)
        fast.lend(lent)
        with closing(RingReader(source.name)) as ring_in, closing(RingReader(sink.name)) as shown:
            for n in range(8):
                source.write(Frame(frame(n), n))
                view = ring_in.view()
                fast.begin(view.item.frame.pixels, Params(), None, view.valid)
                lent.write(Frame(fast.end(), n), 0)
                wanted = eager(frame(n), Params()).astype(int)
                assert np.abs(wanted - shown.read().frame.pixels).max() <= 1
            assert fast.painter.failed == ""
            assert len(fast.painter._pins._known) == 6, "three slots of each ring"
            fast.lend(None)
        source.unlink()
        sink.unlink()


def test_frames_go_on_while_a_new_mode_is_recorded(streams):
    _, fast = streams
    for n in range(3):
        fast(frame(n), Params(**NAMED))
    fast.go_live()
    unit, until = Params(**NAMED, control1_on=True), time.monotonic() + 120.0
    while fast.painter.records < 2 and time.monotonic() < until:
        assert fast(frame(4), unit).std() > 1.0
    assert fast.painter.records == 2
    assert fast.painter.failed == ""
    assert fast.knobs.mode.units
