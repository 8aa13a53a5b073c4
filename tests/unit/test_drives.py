"""Schedules at work on a real store: every frame, on the bridge's clock, until a hand takes over."""

from __future__ import annotations

import pytest

from bridge.clock import NS
from bridge.errors import ParamError
from bridge.metrics import Metrics
from bridge.show.drives import MAX_INPUTS, Drives
from bridge.store import ParamStore
from pipelines.params import Params, pack, unpack

T0 = 10**15
"""Later than any clock of a test machine."""


def at(seconds: float) -> int:
    return T0 + int(seconds * NS)


@pytest.fixture
def drives() -> Drives:
    return Drives(Metrics())


@pytest.fixture
def store(drives: Drives) -> ParamStore:
    made = ParamStore(Params(), {})
    made.drive_by(drives)
    made.snapshot(T0)
    return made


def test_a_schedule_moves_its_parameter_every_frame_and_nothing_else(store: ParamStore, drives: Drives) -> None:
    before = store.snapshot(T0)
    drives.attach("strength", "0:(0), 15:(1)", at_ns=T0)
    seen = [store.snapshot(at(t)) for t in (0.25, 0.5, 2.0)]
    assert [p.strength for p in seen] == pytest.approx([0.25, 0.5, 1.0])
    assert [p.version for p in seen] == [before.version + n for n in (1, 2, 3)]
    assert seen[-1].mix == before.mix


def test_who_asks_is_told_where_a_moving_row_is(store: ParamStore, drives: Drives) -> None:
    drives.attach("strength", "0s:(0), 10s:(1)", at_ns=T0)
    store.snapshot(at(4))
    assert store.values()["strength"] == pytest.approx(0.4)
    store.set("strength", 0.8, at_ns=at(4))
    assert store.values()["strength"] == 0.8


def test_a_hand_takes_over_from_where_the_schedule_is_until_it_is_released(store: ParamStore, drives: Drives) -> None:
    drives.attach("strength", "0s:(0), 10s:(1)", at_ns=T0)
    assert store.snapshot(at(4)).strength == pytest.approx(0.4)
    store.set("strength", 0.8, over_s=2, at_ns=at(4))
    assert store.snapshot(at(5)).strength == pytest.approx(0.6)  # half way from 0.4 and not from what was set before
    assert store.snapshot(at(8)).strength == pytest.approx(0.8)
    drives.release("strength")
    assert store.snapshot(at(9)).strength == pytest.approx(0.9)


def test_a_move_to_the_value_that_was_set_before_takes_over_too(store: ParamStore, drives: Drives) -> None:
    drives.attach("strength", "0.1", at_ns=T0)
    assert store.snapshot(at(1)).strength == pytest.approx(0.1)
    store.set("strength", 0.6, at_ns=at(1))
    assert store.snapshot(at(2)).strength == pytest.approx(0.6)


def test_values_are_brought_into_the_rows_range_and_type(store: ParamStore, drives: Drives) -> None:
    for name, text in {
        "strength": "7",
        "eta": "-1",
        "steps": "2.6",
        "control1_resolution": "500",
        "bypass": "t > 1",
        "sampler": '0:("tcd")',
    }.items():
        drives.attach(name, text, at_ns=T0)
    seen = store.snapshot(at(2))
    assert (seen.strength, seen.eta, seen.steps, seen.control1_resolution) == (1.0, 0.0, 3, 512)
    assert seen.bypass is True
    assert seen.sampler == "tcd"


def test_what_is_no_value_leaves_the_last_good_one(store: ParamStore, drives: Drives) -> None:
    drives.attach("strength", "where(t < 1, 0.25, log(-1))", at_ns=T0)
    drives.attach("sampler", '0s:("lcm"), 1s:("nonsense")', at_ns=T0)
    store.snapshot(at(0.5))
    seen = store.snapshot(at(3))
    assert (seen.strength, seen.sampler) == (0.25, "lcm")


def test_an_input_moves_a_parameter_once_something_was_sent(store: ParamStore, drives: Drives) -> None:
    drives.attach("strength", "map bass 0.2 0.7", at_ns=T0)
    assert store.snapshot(at(1)).strength == 0.6
    drives.put({"bass": 1.0})
    assert store.snapshot(at(2)).strength == pytest.approx(0.7)
    with pytest.raises(ParamError, match="inputs already"):
        drives.put({f"x{i}": 0.0 for i in range(MAX_INPUTS + 1)})


def test_beats_follow_the_tempo_row_without_a_jump(store: ParamStore, drives: Drives) -> None:
    drives.attach("strength", "0b:(0), 16b:(1)", at_ns=T0)
    begin = store.snapshot(at(1)).strength * 16
    store.set("tempo", 60, at_ns=at(2))
    middle, end = store.snapshot(at(2)).strength * 16, store.snapshot(at(3)).strength * 16
    assert (middle - begin, end - middle) == pytest.approx((2.0, 1.0), abs=1e-4)


def test_the_frames_of_keys_bend_with_their_rate(store: ParamStore, drives: Drives) -> None:
    drives.attach("strength", "0:(0), 100:(1)", at_ns=T0)
    assert store.snapshot(at(2)).strength == pytest.approx(0.3)
    store.set("prompt_fps", 30, at_ns=at(2))
    store.snapshot(at(2))
    assert store.snapshot(at(3)).strength == pytest.approx(0.6)


def test_a_prompt_with_live_variables_gets_them_with_every_frame_and_no_other_does(
    store: ParamStore, drives: Drives
) -> None:
    drives.put({"kick": 0.25, "snare": 1.0})
    store.set("prompt", "in.kick of the beat", at_ns=T0)
    quiet = store.snapshot(at(0))
    assert quiet.live is None
    assert store.snapshot(at(1)) is quiet
    store.set("prompt", "ink:`in.kick*phase` | neon:`1 - in.kick`", at_ns=at(1))
    first, second = store.snapshot(at(2)), store.snapshot(at(2.1))
    assert first.live is not None
    assert second.live is not None
    assert first.live.keys() == {"in.kick", "phase"}
    assert first.live["in.kick"] == 0.25
    assert second.live["phase"] != first.live["phase"]
    assert second.version == first.version + 1
    assert unpack(pack(second)) == second


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("model", "1", "can't be scheduled"),
        ("width", "1", "can't be scheduled"),
        ("tempo", "1", "can't be scheduled"),
        ("nope", "1", "no parameter"),
        ("strength", "0:(0), 5:(", "the schedule of strength: .* never closed"),
    ],
)
def test_what_can_not_be_scheduled_says_why(drives: Drives, name: str, text: str, sentence: str) -> None:
    with pytest.raises(ParamError, match=sentence):
        drives.attach(name, text)
    assert not drives.texts()
