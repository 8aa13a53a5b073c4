"""Frames recorded as graphs on three streams: eager's pictures in every mode, under a card's rules, and no recording
for anything that is live. The card is engines.emulated's, which fails wherever one would."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from engines.base import Nets
from engines.compiled import CompiledEngine, compiled
from engines.eager import EagerEngine
from engines.emulated import EmulatedMachine
from engines.errors import ModelError
from pipelines import lanes
from pipelines.lanes import MOST, TRIES
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support import loras
from tests.support.controlnets import write_controlnet
from tests.support.pairs import BUILD, SIDE, Streams, frame

NETS = {"control1_model": "a", "control2_model": "b", "control3_model": "c"}


class Pair(Streams):
    def tune(self, **values: Any) -> None:
        for stream in (self.eager, self.fast):
            stream.tune(Params(**values))

    def paint(self, n: int, shape: tuple[int, ...] = (80, 100, 3), /, **values: Any) -> np.ndarray:
        pixels, params = frame(n, shape), Params(**values)
        wanted, found = self.eager(pixels, params), self.fast(pixels, params)
        assert np.array_equal(found, wanted), values
        difference = (self.fast.state.picture - self.eager.state.picture).abs().max()
        assert difference <= 1e-3, values
        assert self.lanes.failed == ""
        return found


@pytest.fixture(scope="module")
def controls(model_folder, tmp_path_factory) -> Callable[[str], dict[str, Any]]:
    root, made = tmp_path_factory.mktemp("controls"), {}

    def of(kind: str = "sd15"):
        if kind not in made:
            folder = model_folder(kind)
            made[kind] = {name: write_controlnet(root / kind / name, folder, n) for n, name in enumerate("abc")}
        return made[kind]

    return of


@pytest.fixture
def pair(model_folder, controls) -> Iterator[Callable[[str], Pair]]:
    made: list[Pair] = []

    def new(kind: str = "sd15") -> Pair:
        made.append(Pair(model_folder(kind), controls(kind)))
        return made[-1]

    yield new
    for each in made:
        each.close()


ON = {1: {"control1_on": True}, 2: {"control2_on": True}, 3: {"control3_on": True}}
FACTORS: dict[str, list[dict[str, Any]]] = {
    "work": [{}, {"mode": "txt2img"}],
    "steps": [{"steps": n} for n in (1, 2, 3, 4)],
    "sampler": [{"sampler": name} for name in ("turbo", "lcm", "tcd", "ddim")],
    "units": [{}, ON[1], ON[1] | ON[2], ON[1] | ON[2] | ON[3]],
    "temporal net": [{}, {"control1_source": "previous_output"}],
    "feedback": [{}, {"feedback": 0.4}, {"feedback": 0.4, "feedback_space": "latent", "smoothing": 0.3}],
    "guidance": [{"guidance_mode": name} for name in ("off", "full", "self", "onetime")],
    "lora": [{}, {"lora1_id": "ink"}],
    "noise": [{}, {"noise_mode": "travel"}],
}


def rows() -> list[tuple[int, ...]]:
    """Choices of one value per factor in which every two values of two factors meet, few of them."""
    sizes = [len(values) for values in FACTORS.values()]
    left = {
        (i, a, j, b)
        for i, j in itertools.combinations(range(len(sizes)), 2)
        for a in range(sizes[i])
        for b in range(sizes[j])
    }
    rng, found = random.Random(5), []
    while left:
        tries = [tuple(rng.randrange(size) for size in sizes) for _ in range(60)]
        best = max(tries, key=lambda row: len(met(row) & left))
        found.append(best)
        left -= met(best)
    return found


def met(row: tuple[int, ...]) -> set[tuple[int, int, int, int]]:
    return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}


def values_of(row: tuple[int, ...]) -> dict[str, Any]:
    chosen = [values[choice] for values, choice in zip(FACTORS.values(), row, strict=True)]
    return NETS | {key: value for each in chosen for key, value in each.items()}


def paint_rows(both: Pair, rows: list[tuple[int, ...]], folder, tmp_path) -> None:
    made = loras.make(folder, 3, layers=loras.ATTENTION)
    loras.register({"ink": loras.write(tmp_path / "ink.safetensors", loras.kohya(made))})
    for n, row in enumerate(rows):
        values = values_of(row) | {"prompt": "neon"}
        both.tune(**values)
        records = both.lanes.records
        both.paint(n, **values)  # operation by operation
        both.paint(n + 1, **values, seed=n)
        assert both.lanes.records == records + 1
        both.paint(n + 2, **values, seed=7, strength=0.9, guidance=3.0, delta=0.7, mix=0.6)
        assert both.lanes.records == records + 1


@pytest.mark.timeout(600)
def test_every_two_modes_together_paint_what_eager_paints(pair, model_folder, tmp_path, amount):
    """All of them at full length, else some of many parts."""
    paint_rows(pair(), rows()[: amount(1000, 4)], model_folder(), tmp_path)


@pytest.mark.parametrize("kind", ["sd21", "sdxl", "lcm"])
def test_every_family_is_recorded(kind, pair):
    both = pair(kind)
    values = {**NETS, **ON[1], **ON[2], "control1_source": "previous_output", "guidance_mode": "full", "steps": 2}
    pictures = [both.paint(n, **values, seed=n) for n in range(4)]
    assert both.lanes.records == 1
    assert np.std(pictures[-1]) > 1.0
    assert not np.array_equal(pictures[-1], pictures[-2])


def test_one_mode_follows_another_and_none_is_recorded_twice(pair, amount):
    both = pair()
    modes = [
        {}, {"steps": 2, "sampler": "lcm"}, {"bypass": True}, ON[1] | {"control1_source": "previous_output"},
        {"feedback": 0.5}, {"mode": "txt2img"}, ON[1],
    ][: amount(7, 5)]  # fmt: skip
    for mode in modes:
        for n in range(2):
            both.paint(n, **NETS | mode)
    records, graphs = both.lanes.records, both.machine.graphs
    for n, mode in enumerate(walk(len(modes))):
        both.paint(n, **NETS | modes[mode])
    assert (both.lanes.records, both.machine.graphs) == (records, graphs)


def walk(count: int) -> list[int]:
    """Numbers below `count`, each once right before each other one: the shortest way there is."""
    left = {one: [other for other in range(count) if other != one] for one in range(count)}
    way, path = [0], list[int]()
    while way:  # Hierholzer's way round a graph
        if left[way[-1]]:
            way.append(left[way[-1]].pop())
        else:
            path.append(way.pop())
    return path


LIVE = {
    "strength": (0.1, 1.0), "eta": (0.0, 1.0), "guidance": (1.0, 9.0), "delta": (0.0, 2.0), "mix": (0.1, 1.0),
    "feedback": (0.1, 0.9), "smoothing": (0.1, 0.9), "colour_amount": (0.1, 1.0), "cut_sensitivity": (0.0, 2.0),
    "control1_weight": (0.1, 2.0),
}  # fmt: skip


def test_many_changes_record_nothing_make_nothing_and_wait_for_nothing(pair, amount):
    both, rng = pair(), random.Random(3)
    base = {
        **NETS, **ON[1], "control1_source": "previous_output", "guidance_mode": "self", "colour_match": "lab",
        "sampler": "lcm",
    }  # fmt: skip
    start = {name: high for name, (_, high) in LIVE.items()}
    for n in range(3):
        both.paint(n, **base, **start)
    machine = both.machine
    before = both.lanes.records, machine.graphs, machine.made, machine.syncs
    assert before[0] == 1
    for n in range(amount(200, 40)):
        moved = {name: rng.uniform(*LIVE[name]) for name in rng.sample(sorted(LIVE), 3)}
        pixels, params = frame(n), Params(**{**base, **start, **moved})
        found = both.fast(pixels, params)
    assert (both.lanes.records, machine.graphs, machine.made, machine.syncs) == before
    assert found.std() > 1.0


@pytest.mark.parametrize(("kind", "more"), [("sd15", {"steps": 2}), ("sdxl", {"guidance_mode": "full"})])
def test_deep_levels_are_kept_by_a_second_recording_and_no_more(kind, more, pair):
    both = pair(kind)
    values = {**NETS, **ON[1], **more, "reuse_deep": 2, "cut_sensitivity": 0.0}
    for n in range(4):
        both.paint(n, **values)
    before = both.lanes.records, both.machine.graphs, both.machine.made, both.machine.syncs
    assert before[0] == 2
    taken = both.fast.thrift.reuse.taken
    pictures = [both.paint(n, **values, strength=0.6 + n / 50).copy() for n in range(3)]
    assert (both.lanes.records, both.machine.graphs, both.machine.made, both.machine.syncs) == before
    assert not np.array_equal(pictures[-1], pictures[-2])
    assert both.fast.thrift.reuse.taken == taken + 2


def test_a_new_prompt_and_another_seed_record_nothing(pair):
    both = pair()
    for n in range(2):
        both.paint(n)
    before = both.lanes.records, both.machine.graphs
    pictures = []
    for prompt, seed in (("neon", 1), ("ink", 1), ("ink", 5)):
        both.tune(prompt=prompt, seed=seed)
        pictures.append(both.paint(2, prompt=prompt, seed=seed).copy())
    assert (both.lanes.records, both.machine.graphs) == before
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


OVERLAPS = [{}, {"feedback": 0.5}, NETS | ON[1], {"smoothing": 0.5, "steps": 2, "sampler": "lcm"}, {"bypass": True},
            NETS | ON[1] | {"reuse_deep": 2, "cut_sensitivity": 0.0}]  # fmt: skip


@pytest.mark.parametrize("values", OVERLAPS)
def test_two_frames_at_once_are_the_same_pictures(values, pair):
    both, shown = pair(), []
    wanted = [both.eager(frame(n), Params(**values, strength=0.2 + n / 10)).copy() for n in range(8)]
    for n in range(8):
        both.fast.begin(frame(n), Params(**values, strength=0.2 + n / 10))
        if n:
            shown.append(both.fast.end().copy())
    shown.append(both.fast.end())
    assert all(map(np.array_equal, shown, wanted))
    assert both.lanes.failed == ""


def test_frames_overlap_as_far_as_none_needs_the_one_before(pair):
    def waits(**values) -> bool:
        """Whether a frame's denoiser waits for the decoding of the one before."""
        both = pair()
        for n in range(3):
            both.fast(frame(n), Params(**values))
        both.fast.begin(frame(3), Params(**values))
        before = both.lanes._left.clock
        both.fast.begin(frame(4), Params(**values))
        clock = both.lanes._walk.mark().clock
        return clock.get(both.lanes._leave.number, 0) >= before[both.lanes._leave.number]

    assert not waits()
    assert not waits(reuse_deep=1, cut_sensitivity=0.0)
    assert waits(feedback=0.5)


def test_a_held_picture_is_the_last_one_while_it_is_still_painted(pair):
    both = pair()
    for n in range(2):
        both.paint(n)
    both.fast.begin(frame(5), Params())
    both.fast.begin(frame(6), Params(pause=True))
    first = both.fast.end().copy()
    assert np.array_equal(both.fast.end(), first)
    assert np.array_equal(first, both.eager(frame(5), Params()))


def test_other_sizes_and_formats_are_painted_too(pair):
    both = pair()
    for shape in ((80, 100, 3), (80, 100, 4), (64, 70, 1), (80, 100, 3)):
        for n in range(3):
            both.paint(n, shape)
    assert both.lanes.records == 4


def test_the_past_is_forgotten_behind_what_is_still_painted(pair):
    both = pair()
    values = {"feedback": 0.5}
    for n in range(3):
        both.paint(n, **values)
    for stream in (both.eager, both.fast):
        stream.reset()
    both.paint(9, **values)


def test_many_modes_are_kept_and_the_oldest_go(pair, monkeypatch):
    assert MOST >= 24
    monkeypatch.setattr(lanes, "MOST", 4)
    both = pair()
    shapes = [(8 * n, 10, 3) for n in range(2, 4)]
    modes = [{"sampler": "lcm"}, {"fit": "crop"}, {"fit": "letterbox"}, {"mode": "txt2img"}, {"steps": 2}]
    for values in modes:
        for n in range(2):
            both.fast(frame(n), Params(**values))
    assert len(both.lanes._known) == 4
    assert both.lanes.records == len(modes)
    for shape in shapes:
        both.paint(1, shape)
    assert len(both.lanes._known) == 1


# What goes wrong


class Breaks:
    """A network that reads something back to the host, so that no graph can hold it."""

    def __init__(self, net: Any) -> None:
        self._net, self.spec = net, net.spec

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert float(x.abs().sum()) >= 0.0
        return self._net(x)


def broken(nets: Nets) -> DiffusionStream:
    import dataclasses

    return DiffusionStream(dataclasses.replace(nets, decode=Breaks(nets.decode)), (SIDE, SIDE), Params())


def test_a_mode_that_can_not_be_recorded_is_named_and_the_show_goes_on(model_folder):
    nets = compiled(EagerEngine().load(model_folder(), BUILD), EmulatedMachine())
    stream, eager = broken(nets), DiffusionStream(EagerEngine().load(model_folder(), BUILD), (SIDE, SIDE), Params())
    for steps in range(1, 5):
        for n in range(3):
            params = Params(steps=steps)
            assert np.array_equal(stream(frame(n), params), eager(frame(n), params))
    said = stream.notes()["engine.failed"]
    assert "can't be recorded as a graph" in said
    assert "host" in said
    assert stream.painter._failures == TRIES
    assert stream.painter.records == 0
    stream.close()
    eager.close()


def test_without_a_card_it_says_so(model_folder):
    with pytest.raises(ModelError, match="NVIDIA"):
        CompiledEngine().load(model_folder(), BUILD)
