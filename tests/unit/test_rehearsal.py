"""A new mode is made ready beside the stream, and the frames go on in the mode before until it is: every mode after
every other. The card is engines.emulated's, which fails wherever one would."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engines.base import Nets
from engines.emulated import EmulatedMachine
from engines.emulated_rules import BrokenRule
from pipelines.params import Params
from pipelines.rehearsal import twin
from tests.support.controlnets import write_controlnet
from tests.support.pairs import Streams, frame

LONG_S = 120.0


class Gate:
    """A network whose like beside the stream waits until it may go on."""

    def __init__(self, net: Any) -> None:
        self._net, self.spec = net, net.spec
        self.reached, self.open = threading.Event(), threading.Event()
        self.open.set()
        self.breaks = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if threading.current_thread().name == "ll-record":
            self.reached.set()
            assert self.open.wait(LONG_S)
            if self.breaks:
                raise RuntimeError("no kernel for that")
        return self._net(x)


class Pair(Streams):
    """The one that is recorded is watched."""

    def __init__(self, folder, controls) -> None:
        super().__init__(folder, controls, self._gated)
        self.n = 0

    def _gated(self, nets: Nets) -> Nets:
        self.gate = Gate(nets.decode)
        return replace(nets, decode=self.gate)

    def begin(self, **values: Any) -> None:
        """Painted and recorded in this mode, and watched from then on."""
        for _ in range(2):
            self.paint(values, values)
        self.fast.go_live()

    def paint(self, asked: dict[str, Any], shown: dict[str, Any]) -> np.ndarray:
        self.n += 1
        pixels = frame(self.n)
        wanted, found = self.eager(pixels, Params(**NAMED, **shown)), self.fast(pixels, Params(**NAMED, **asked))
        assert np.array_equal(found, wanted), (asked, shown)
        return found

    def change(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """While `after` is made ready, `before` is painted, its numbers as live as ever."""
        self.gate.open.clear()
        self.gate.reached.clear()
        for strength in (0.4, 0.8):
            self.paint({**after, "strength": strength}, {**before, "strength": strength})
        assert self.gate.reached.wait(LONG_S)
        assert self.fast.notes()["engine.doing"] == "recording"
        self.paint({**after, "seed": 7}, {**before, "seed": 7})
        self.gate.open.set()
        assert self.lanes._rehearsal.settle(LONG_S)
        records = self.lanes.records
        self.paint(after, after)
        assert self.lanes.records == records + 1

    def forget(self) -> None:
        """All modes but the one that is shown."""
        shown = self.lanes._shown.mode
        for key in [key for key in self.lanes._known if key[0] != shown]:
            del self.lanes._known[key]

    def close(self) -> None:
        self.gate.open.set()
        super().close()


@pytest.fixture(scope="module")
def controls(model_folder, tmp_path_factory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("controls")
    return {name: write_controlnet(root / name, model_folder(), n) for n, name in enumerate("ab")}


@pytest.fixture
def pair(model_folder, controls) -> Iterator[Callable[[], Pair]]:
    made: list[Pair] = []

    def new() -> Pair:
        made.append(Pair(model_folder(), controls))
        return made[-1]

    yield new
    for each in made:
        each.close()


UNIT = {"control1_on": True}
NAMED = {"control1_model": "a", "control2_model": "b"}
"""A network that no unit names is let go of."""
MODES: list[dict[str, Any]] = [
    {},
    UNIT,
    {"feedback": 0.5, "smoothing": 0.4},
    {**UNIT, "control1_source": "previous_output", "control2_on": True},
    {"steps": 3, "sampler": "lcm"},
    {"mode": "txt2img", "guidance_mode": "full"},
    {"noise_mode": "warp", "colour_match": "lab"},
    {"steps": 2, "sampler": "tcd", "guidance_mode": "self", "noise_mode": "travel"},
]


def walk(count: int) -> list[int]:
    """Numbers below `count`, each once right before each other one."""
    left = {one: [other for other in range(count) if other != one] for one in range(count)}
    way, path = [0], list[int]()
    while way:
        if left[way[-1]]:
            way.append(left[way[-1]].pop())
        else:
            path.append(way.pop())
    return path


@pytest.mark.timeout(900)
def test_frames_go_on_in_the_mode_before_until_the_new_one_is_ready(pair, amount):
    """From every mode to every other at full length, else once round all of them."""
    both, way = pair(), walk(len(MODES)) if amount(1, 0) else [*range(len(MODES)), 0]
    both.begin(**MODES[way[0]])
    for before, after in itertools.pairwise(way):
        both.forget()
        both.change(MODES[before], MODES[after])
    assert both.lanes.failed == ""


def test_a_picture_says_the_version_that_it_shows_and_not_the_one_that_is_made_ready(pair):
    both = pair()
    both.begin()

    def said(version: int, **values: Any) -> int:
        params = Params(**NAMED, version=version, **values)
        both.fast(frame(version), params)
        return both.fast.version(params)

    assert said(5) == 5
    both.gate.open.clear()
    assert [said(6, steps=2), said(7, steps=2, strength=0.3)] == [5, 5]
    both.gate.open.set()
    assert both.lanes._rehearsal.settle(LONG_S)
    assert [said(8, steps=2), said(9)] == [8, 9]


def test_a_mode_that_is_known_is_there_at_once(pair):
    both = pair()
    both.begin(**UNIT)
    both.change(UNIT, {})
    for _ in range(2):
        both.paint(UNIT, UNIT)
        both.paint({}, {})


def test_a_unit_whose_network_has_just_been_loaded_is_made_ready_too(pair):
    both = pair()
    spare = [stream.nets.controlnets.pop("a") for stream in (both.eager, both.fast)]
    both.begin(**UNIT)
    for stream, net in zip((both.eager, both.fast), spare, strict=True):
        stream.nets.controlnets["a"] = net
    both.gate.open.clear()
    both.paint(UNIT, {})
    both.gate.open.set()
    assert both.lanes._rehearsal.settle(LONG_S)
    both.paint(UNIT, UNIT)


def test_what_is_wanted_last_is_what_comes(pair):
    both = pair()
    both.begin()
    both.gate.open.clear()
    both.paint({"steps": 2}, {})
    assert both.gate.reached.wait(LONG_S)
    both.paint({"steps": 3}, {})
    both.gate.open.set()
    assert both.lanes._rehearsal.settle(LONG_S)
    both.paint({"steps": 3}, {})
    assert both.lanes._rehearsal.settle(LONG_S)
    both.paint({"steps": 3}, {"steps": 3})
    both.paint({"steps": 2}, {"steps": 2})


def test_the_input_goes_through_until_the_first_mode_behind_it_is_ready(pair):
    both = pair()
    both.begin(bypass=True)
    both.change({"bypass": True}, {})
    both.paint({"bypass": True}, {"bypass": True})


def test_a_mode_that_can_not_be_made_ready_is_painted_without(pair):
    both = pair()
    both.begin()
    both.gate.breaks = True
    both.paint({"steps": 2}, {})
    assert both.lanes._rehearsal.settle(LONG_S)
    for _ in range(3):
        both.paint({"steps": 2}, {"steps": 2})
    assert "no kernel" in both.fast.notes()["engine.failed"]
    both.gate.breaks = False
    both.paint({}, {})
    both.change({}, {"steps": 3})


def test_an_input_of_another_size_is_painted_at_once_while_another_mode_was_on_its_way(pair):
    both = pair()
    both.begin()
    both.gate.open.clear()
    both.paint({"steps": 2}, {})
    assert both.gate.reached.wait(LONG_S)
    threading.Timer(0.1, both.gate.open.set).start()  # the frame waits for it: networks run for one at a time
    for n in range(3):
        pixels, params = frame(n, (64, 70, 4)), Params(**NAMED, steps=2)
        assert np.array_equal(both.fast(pixels, params), both.eager(pixels, params))


def test_before_people_watch_every_frame_is_painted_as_it_should_be(pair):
    both = pair()
    for mode in MODES[:3]:
        for _ in range(2):
            both.paint(mode, mode)
    assert both.lanes._rehearsal.aide.thread is None


def test_it_ends_with_its_stream(pair):
    both = pair()
    both.begin()
    both.paint({"steps": 2}, {})
    thread = both.lanes._rehearsal.aide.thread
    both.close()
    assert not thread.is_alive()


def test_a_twin_has_memory_of_its_own_and_the_same_views():
    whole = torch.arange(12.0).reshape(3, 4)
    made = twin({"whole": whole, "part": whole[1:, ::2], "name": "a"})
    made["whole"].fill_(5.0)
    assert made["part"].tolist() == [[5.0, 5.0], [5.0, 5.0]]
    assert whole[1].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert made["name"] == "a"


def test_a_rehearsal_may_read_what_others_write_and_writes_to_nothing_of_theirs():
    machine, x = EmulatedMachine(), torch.ones(4)
    one, two = machine.stream(first=True), machine.stream(first=True)
    with machine.on(one):
        x.add_(1.0)
    with machine.rehearse(two):
        y = x + 1.0
        y.add_(1.0)
        with pytest.raises(BrokenRule, match="not its own"):
            x.add_(1.0)


def test_graphs_are_played_while_another_thread_records():
    machine, x = EmulatedMachine(), torch.zeros(4)
    one, two, pool = machine.stream(first=True), machine.stream(first=True), machine.pool()
    graph = machine.graph(pool)
    with machine.on(one), torch.inference_mode(), graph.record():
        x.add_(1.0)
    inside, done = threading.Event(), threading.Event()

    def record() -> None:
        with machine.on(two), torch.inference_mode(), machine.graph(pool).record():
            x.mul_(100.0)
            inside.set()
            assert done.wait(LONG_S)
            x.sub_(3.0)

    thread = threading.Thread(target=record)
    thread.start()
    assert inside.wait(LONG_S)
    for _ in range(3):
        with machine.on(one):
            graph.play()
    done.set()
    thread.join(LONG_S)
    assert x.tolist() == [3.0] * 4, "a recording does nothing"


def test_deep_levels_are_taken_from_frames_that_were_painted_and_never_while_something_is_made(pair):
    both = pair()
    whole: dict[str, Any] = {"cut_sensitivity": 0.0}
    deep = {**whole, "reuse_deep": 9}
    both.begin(**whole)
    both.gate.open.clear()
    for _ in range(3):
        both.paint(deep, whole)
        assert both.fast.knobs.mode.deep == "off"
    both.gate.open.set()
    assert both.lanes._rehearsal.settle(LONG_S)
    for _ in range(2):  # the frame that is kept, and one in place of the one that would take from it
        both.paint(deep, whole)
        assert both.fast.knobs.mode.deep == "fresh"
    assert both.lanes._rehearsal.settle(LONG_S)
    found, wanted = (each(frame(99), Params(**NAMED, **deep)).copy() for each in (both.fast, both.eager))
    assert both.fast.knobs.mode.deep == "kept"
    assert not np.array_equal(found, wanted)
    both.gate.open.clear()
    both.paint({**deep, "control1_on": True}, whole)
    assert both.fast.knobs.mode.deep == "fresh"
    both.gate.open.set()
