"""A frame that is recorded may read tensors and its mode. Whatever else it reads is named, and the show goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from engines.base import Build
from engines.compiled import CompiledEngine
from engines.emulated import EmulatedMachine
from pipelines import recorded
from pipelines.img2img import step
from pipelines.params import Params
from pipelines.still import BakedIn, still
from pipelines.stream import DiffusionStream

SIDE = 64
READS: dict[str, Callable[[Any], object]] = {
    "Knobs.drawn": lambda knobs: knobs.drawn[0],
    "Knobs.scale": lambda knobs: knobs.scale,
    "Knobs.sampler": lambda knobs: knobs.sampler,
    "Knobs._times": lambda knobs: knobs._times[0],
    "Knobs._seen": lambda knobs: knobs._seen,
    "Knobs._host": lambda knobs: knobs._host[0, 0],
    "UnitKnobs._seen": lambda knobs: knobs.units._seen,
    "UnitKnobs.age": lambda knobs: knobs.units.age,
    "UnitKnobs._host": lambda knobs: knobs.units._host,
    "ImageKnobs.changes": lambda knobs: knobs.image.changes,
    "ImageKnobs._asked": lambda knobs: knobs.image._asked,
}


@pytest.fixture(scope="module")
def stream(model_folder) -> Iterator[DiffusionStream]:
    nets = CompiledEngine(EmulatedMachine()).load(model_folder(), Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    made = DiffusionStream(nets, (SIDE, SIDE), Params())
    yield made
    made.close()


def grey() -> np.ndarray:
    return np.full((80, 100, 3), 90, np.uint8)


@pytest.mark.parametrize("name", READS)
def test_a_number_is_not_given_away(name, stream):
    stream(grey(), Params())
    with pytest.raises(BakedIn, match=name):
        READS[name](still(stream.knobs))
    READS[name](stream.knobs)


def test_what_holds_still_is_given(stream):
    stream(grey(), Params())
    knobs, memory = still(stream.knobs), still(stream.state)
    assert knobs.guidance.data_ptr() == stream.knobs.guidance.data_ptr()
    assert knobs.mode == stream.knobs.mode
    assert knobs.over(knobs.numbers.clone()).guidance.data_ptr() != knobs.guidance.data_ptr()
    assert memory.picture is stream.state.picture
    assert still(knobs) is knobs


def test_a_memory_is_written_to_and_not_replaced(stream):
    memory = still(stream.state)
    memory.picture.copy_(torch.ones_like(memory.picture))
    assert bool((stream.state.picture == 1.0).all())
    with pytest.raises(BakedIn, match=r"StreamState\.picture"):
        memory.picture = memory.picture + 1.0
    with pytest.raises(BakedIn, match=r"StreamState\._latent"):
        assert memory._latent


def test_a_frame_that_reads_a_number_is_not_recorded_and_the_show_goes_on(stream, monkeypatch):
    """A slider that Python reads would move nothing any more once the frame is played again."""

    def careless(frame, params, state, nets, hand):
        painted = step(frame, params, state, nets, hand)
        return painted if params.drawn[0] > 5 else 255 - painted

    monkeypatch.setattr(recorded, "step", careless)
    before, params = stream.painter.records, Params(steps=2)
    pictures = [stream(grey(), params).copy() for _ in range(3)]
    assert stream.painter.records == before
    assert "Knobs.drawn" in stream.painter.failed
    assert np.array_equal(pictures[0], pictures[2])
    monkeypatch.undo()
    stream.painter._failures = 0
    stream(grey(), params)
    assert stream.painter.records == before + 1, "the mode itself is as good as ever"
