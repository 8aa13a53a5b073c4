"""Looks recalled over the built-in model: going back to one gives its very picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.theatre import Theatre, write_look

from bridge.clock import seconds
from bridge.sources.scene import draw
from pipelines.build import build
from pipelines.params import Params
from pipelines.spec import Moment, StreamSpec
from pipelines.stream import DiffusionStream

SIDE = 128
FRAME = draw(1.0, SIDE, SIDE, 1)


@pytest.fixture(scope="module")
def stream() -> Iterator[DiffusionStream]:
    threads = torch.get_num_threads()
    spec = StreamSpec(model="pocket", width=SIDE, height=SIDE, device="cpu", dtype="fp32", threads=1)
    made = build(spec, Params(width=SIDE, height=SIDE))
    assert isinstance(made, DiffusionStream)
    yield made
    made.close()
    torch.set_num_threads(threads)


def paint(stream: DiffusionStream, theatre: Theatre) -> np.ndarray:  # type: ignore[type-arg]
    """The picture once all that was asked for has arrived: prompts are encoded, fades and moves over."""
    for _ in range(2):
        stream(FRAME, theatre.frame(), Moment(seconds(theatre.at_ns), 1))
        assert stream.prompter.settle()
        theatre.after(5.0)
    return stream(FRAME, theatre.frame(), Moment(seconds(theatre.at_ns), 1)).copy()


def test_look_a_then_b_then_a_is_as_picture_bit_for_bit(stream: DiffusionStream) -> None:
    theatre = Theatre(width=SIDE, height=SIDE, prompt="neon", seed=3, strength=0.55)
    director = theatre.director
    director.save("a")
    theatre.store.set_many({"prompt": "ink:2 | gold", "seed": 9, "strength": 0.8, "steps": 2, "sampler": "lcm"})
    director.save("b")
    shown = {}
    # At once, and over a time: with ramps, a cross-fade, and a walk from one seed to the other.
    for over in (None, 2.0):
        for name in "aba":
            director.recall(name, over, "ease")
            picture = paint(stream, theatre)
            assert np.array_equal(shown.setdefault(name, picture), picture), (name, over)
    assert shown["a"].std() > 10
    assert np.abs(shown["a"].astype(int) - shown["b"]).mean() > 10


def test_a_recall_over_time_passes_between_the_two(stream: DiffusionStream) -> None:
    theatre = Theatre(width=SIDE, height=SIDE, prompt="neon", seed=3)
    write_look("nine", "[params]\nseed = 9\n")
    first = paint(stream, theatre)
    theatre.director.recall("nine", 2.0)
    theatre.after(1.0)
    half = stream(FRAME, theatre.frame(), Moment(seconds(theatre.at_ns), 1)).copy()
    last = paint(stream, theatre)
    assert not np.array_equal(first, last)
    way = [np.abs(half.astype(int) - end).mean() for end in (first, last)]
    assert max(way) < np.abs(first.astype(int) - last).mean()
