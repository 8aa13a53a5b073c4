"""A running stream on a real card: sliders, modes, sizes and hours, without anything new that it did not need."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support import card

from engines.compiled import compiled
from pipelines.params import Params
from pipelines.stream import DiffusionStream

pytestmark = card.MARKS
NAMED = {"control1_model": "a", "control2_model": "b"}
MODES = [
    {}, {"control1_on": True}, {"steps": 2, "sampler": "lcm"}, {"feedback": 0.4, "smoothing": 0.3},
    {"control1_on": True, "control2_on": True, "guidance_mode": "full"}, {"noise_mode": "warp"},
    {"colour_match": "lab", "colour_amount": 0.5},
]  # fmt: skip


@pytest.fixture
def stream() -> Iterator[DiffusionStream]:
    made = DiffusionStream(compiled(card.nets(), card.machine()), (card.SIDE, card.SIDE), Params())
    yield made
    made.close()


def frame(n: int, height: int = 80, width: int = 100) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (height, width, 3), np.uint8)


def test_a_slider_that_moves_200_times_a_second_records_nothing_and_is_as_fast(stream):
    """Two sliders, a seed now and then: the same graphs, and no slower frames than without."""
    count, times = 400 // card.FEW, {}
    for _ in range(3):
        stream(frame(0), Params())
    for moving in (False, True, False, True):
        began = time.perf_counter()
        for n in range(count):
            move = n / count if moving else 0.5
            stream.begin(frame(1), Params(strength=0.2 + 0.6 * move, mix=1.0 - move / 4, seed=n // 50 if moving else 0))
            if n:
                stream.end()
        stream.end()
        times.setdefault(moving, []).append((time.perf_counter() - began) / count * 1e3)
    assert stream.painter.records == 1
    assert stream.painter.failed == ""
    print(f"\n{min(times[False]):.2f} ms a frame, {min(times[True]):.2f} with sliders that move")


def test_modes_are_made_ready_beside_the_frames_one_after_the_other(stream):
    for _ in range(3):
        stream(frame(0), Params(**NAMED))
    stream.go_live()
    slowest = 0.0
    for count, mode in enumerate(MODES[1:], 2):
        until = time.monotonic() + 120.0
        while stream.painter.records < count:
            assert time.monotonic() < until, (mode, stream.painter.failed)
            began = time.perf_counter()
            assert stream(frame(count), Params(**NAMED, **mode)).std() > 1.0
            slowest = max(slowest, time.perf_counter() - began)
        assert stream.painter.failed == ""
    print(f"\nthe slowest of the frames that were painted meanwhile took {slowest * 1e3:.1f} ms")


def test_an_input_of_another_size_is_recorded_again_and_again(stream):
    for n, (height, width) in enumerate(itertools.islice(itertools.cycle([(80, 100), (64, 64), (270, 480)]), 6)):
        for _ in range(3):
            assert stream(frame(n, height, width), Params()).std() > 1.0
        assert stream.painter.failed == ""
        assert stream.painter.records == n + 1


def test_hours_take_no_more_memory_than_minutes(stream):
    """All modes by turns, and back: what is held after the second round is held after the tenth."""
    held = []
    for turn in range(10 // (1 if card.REAL else 3)):
        for mode in MODES[: len(MODES) // (1 if card.REAL else 2)]:
            for n in range(20 // card.FEW + 2):
                stream(frame(n), Params(**NAMED, **mode, strength=0.3 + n / 100, seed=turn))
        if card.REAL:
            gc.collect()
            torch.cuda.synchronize(card.CARD)
            held.append((torch.cuda.memory_allocated(card.CARD), torch.cuda.memory_reserved(card.CARD)))
    assert stream.painter.failed == ""
    assert not held or held[-1] == held[1]
