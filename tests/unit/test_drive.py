"""What moves a parameter by itself: keyframes and formulas with live variables, and the short forms."""

from __future__ import annotations

import math

import pytest

from pipelines.drive import OWN, Bounds, Instant, Shared, compile_drive
from pipelines.expr import ExprError


def play(text: str, seconds: float, bounds: Bounds = OWN, bpm: float = 120.0, **values: float) -> float | str:
    """The value of a fresh drive at this time, with 15 frames a second."""
    beat = seconds * bpm / 60
    names = {name.replace("in_", "in."): value for name, value in values.items()}
    shared = Shared({"beat": beat, "bar": beat // 4, "phase": beat % 1, **names}, 4.0)
    return compile_drive(text, bounds)(Instant(seconds, seconds * 15, beat), shared)


@pytest.mark.parametrize(
    ("text", "seconds", "wanted"),
    [
        ("0:(0), 30:(3)", 1.0, 1.5),  # frames
        ("0s:(0), 30s:(3)", 1.0, 0.1),
        ("0b:(0), 4b:(4)", 1.0, 2.0),
        ("0:(t), 99:(0)", 1.0, 15.0),
        ("0s:(t), 99s:(0)", 2.0, 2.0),
        ("0:(time + f), 99:(0)", 1.0, 16.0),
        ("t + beat/8", 4.0, 5.0),
        ("f", 2.0, 30.0),
        ("bar + phase", 2.25, 1.5),
        ("lfo sine 4s", 2.0, 1.0),
        ("lfo sine 4s 0.2 0.8", 1.0, 0.5),
        ("lfo triangle 1bar 0 8", 0.5, 4.0),
        ("lfo saw 2b", 0.25, 0.25),
        ("lfo square 1s -1 1", 0.75, -1.0),
        ("env 1s 1s 2s", 0.5, 0.5),
        ("env 1s 1s 2s", 1.5, 1.0),
        ("env 1s 1s 2s", 3.0, 0.5),
        ("env 1s 1s 2s", 9.0, 0.0),
        ("env 1b 1b 2b 0 10", 0.25, 5.0),
        ("env 0s 0s 0s", 1.0, 0.0),
    ],
)
def test_a_drive_gives_its_value_at_a_time(text: str, seconds: float, wanted: float) -> None:
    assert play(text, seconds) == pytest.approx(wanted)


def test_a_short_form_without_a_range_goes_over_the_parameters_own() -> None:
    assert play("lfo saw 4s", 1.0, Bounds(2.0, 6.0)) == pytest.approx(3.0)
    assert play("map bass", 1.0, Bounds(2.0, 6.0), in_bass=0.5) == pytest.approx(4.0)


def test_random_holds_for_a_turn_and_then_is_another() -> None:
    drive = compile_drive("lfo random 1s")
    shared = Shared({"beat": 0.0}, 4.0)
    values = [float(drive(Instant(t / 10, 0, 0), shared)) for t in range(1000)]
    turns = [set(values[i : i + 10]) for i in range(0, 1000, 10)]
    assert all(len(turn) == 1 for turn in turns)
    assert len(set(values)) == 100
    assert all(0.0 <= value <= 1.0 for value in values)


def test_an_envelope_starts_again_whenever_its_input_rises() -> None:
    drive = compile_drive("env 0s 0s 1s 0 1 kick")

    def at(seconds: float, kick: float) -> float:
        return float(drive(Instant(seconds, 0, 0), Shared({"in.kick": kick}, 4.0)))

    assert [at(0, 0), at(1, 1), at(1.5, 1), at(2.5, 1)] == [0, 1, 0.5, 0]
    assert [at(3, 0), at(4, 1), at(4.25, 0)] == [0, 1, 0.75]


def test_a_mapped_input_rises_with_its_attack_and_falls_with_its_release() -> None:
    drive = compile_drive("map bass 0 10 linear 0.3 3")

    def at(seconds: float, bass: float | None) -> float:
        values = {} if bass is None else {"in.bass": bass}
        return float(drive(Instant(seconds, 0, 0), Shared(values, 4.0)))

    assert math.isnan(at(0, None))
    assert at(1, 0.0) == 0.0
    assert at(1.3, 1.0) == pytest.approx(9.5, abs=0.05)
    assert at(1.6, 0.0) == pytest.approx(9.5 * math.exp(-0.3), abs=0.05)
    assert float(play("map in.bass 0 1 square", 1.0, in_bass=0.5)) == pytest.approx(0.25)
    assert float(play("map bass 0 1", 1.0, in_bass=7.0)) == 1.0


def test_a_length_gives_max_f_and_begins_again() -> None:
    drive = compile_drive("0:(max_f + t)", length=40)
    assert drive(Instant(3.0, 45.0, 0.0), Shared({}, 4.0)) == 39.0 + 5.0


def test_a_text_schedule_gives_texts() -> None:
    assert play('0s:("lcm"), 2s:("tcd")', 3.0) == "tcd"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("lfo", "lfo takes sine"),
        ("lfo wobble 4s", "lfo takes sine"),
        ("lfo sine 4", "'4' is no time"),
        ("lfo sine 0s", "above 0"),
        ("lfo sine 4s 0 x", "'x' is no number"),
        ("lfo sine 4s 0 nan", "'nan' is no number"),
        ("env 1s 1b 1s", "all in s"),
        ("env 1s", "env takes attack"),
        ("map", "map takes an input"),
        ("map a/b", "no name of an input"),
        ("map bass 1", "map takes an input"),
        ("nope + 1", "is no variable"),
        ("0:(nope)", "at key 0"),
    ],
)
def test_an_error_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ExprError, match=sentence):
        compile_drive(text)
