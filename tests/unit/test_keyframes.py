"""Deforum's keyframe language against the values that the extension and the notebook give, and what goes beyond it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pipelines.expr import ExprError
from pipelines.keyframes import Keyframes, parse

GOLDEN = [
    json.loads(line)
    for line in (Path(__file__).parent.parent / "golden" / "schedules.jsonl").read_text("utf-8").splitlines()
]
NOTEBOOK = frozenset({"t"})
"""The notebook knows no seed."""


def check(case: dict[str, object], wanted: str, read: Keyframes) -> None:
    got = read.series(int(case["max_frames"]), int(case["seed"]))  # type: ignore[call-overload]
    values = case[wanted]
    assert isinstance(values, list)
    assert len(got) == len(values)
    for mine, theirs in zip(got, values, strict=True):
        assert mine == (theirs if isinstance(theirs, str) else pytest.approx(theirs, abs=1e-6, rel=1e-6))


def test_all_schedules_give_the_extensions_values_or_an_error_that_names_the_place() -> None:
    assert len(GOLDEN) == 180
    refused = 0
    for case in GOLDEN:
        if "a1111_ext_error" in case:
            with pytest.raises(ExprError, match="no key 0: the first is at 10"):
                parse(case["schedule"], case["max_frames"])
            refused += 1
        else:
            check(case, "a1111_ext", parse(case["schedule"], case["max_frames"]))
    assert refused == 1


def test_all_schedules_give_the_notebooks_values_or_an_error_that_names_the_place() -> None:
    refused = 0
    for case in GOLDEN:
        if "notebook_v07_error" in case:
            place = r"at key 0 \(character 4\)" if "(s)" in case["schedule"] else "no key 0"
            with pytest.raises(ExprError, match=place):
                parse(case["schedule"], case["max_frames"], NOTEBOOK)
            refused += 1
        else:
            check(case, "notebook_v07", parse(case["schedule"], case["max_frames"], NOTEBOOK))
    assert refused == 8


def test_a_live_run_gives_the_same_at_every_frame_where_there_is_a_number() -> None:
    compared = 0
    for case in GOLDEN:
        if "a1111_ext_error" in case:
            continue
        # Live, a key beyond the last frame is led to, and a value that is none is held: leave both out.
        read = parse(case["schedule"], case["max_frames"])
        values = {"s": float(case["seed"]), "max_f": case["max_frames"] - 1.0}
        live = [read.at(t, dict(values)) for t in range(case["max_frames"])]
        if any(isinstance(x, float) and not math.isfinite(x) for x in live):
            continue
        compared += 1
        for mine, theirs in zip(live, case["a1111_ext"], strict=True):
            assert mine == (theirs if isinstance(theirs, str) else pytest.approx(theirs, abs=1e-6, rel=1e-6))
    assert compared > 150


def test_between_frames_a_number_leads_on_and_an_expression_is_worked_out() -> None:
    read = parse("0:(0), 10:(1), 20:(t/10)")
    assert [read.at(t, {}) for t in (0, 2.5, 10, 15, 20, 25.5)] == pytest.approx([0, 0.25, 1, 1.5, 2, 2.55])
    assert read.at(-3, {}) == pytest.approx(-0.3)


def test_live_variables_and_commas_in_functions_are_heard() -> None:
    read = parse("0:(where(beat % 4 < 1, 1, max(in.kick, 0.25))), 60:(0)")
    assert read.at(5, {"beat": 4.5}) == 1.0
    assert read.at(5, {"beat": 2.5, "in.kick": 0.5}) == 0.5


def test_keys_may_be_seconds_or_beats_and_the_schedule_may_begin_again() -> None:
    read = parse("0s:(0), 2.5s:(5)", 10)
    assert read.unit == "seconds"
    assert read.at(1.25, {}) == pytest.approx(2.5)
    assert read.at(11.25, {}) == pytest.approx(2.5)
    assert parse("0b:(1), 8b:(0)").unit == "beats"
    assert parse('0:(1), "max_f/2+5":(0)', 40).at(25, {}) == 0.0


def test_max_f_is_the_last_frame() -> None:
    assert parse("0:(max_f)").series(40)[0] == 39.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("0.5", r"a key such as 60: and a value in brackets is due \(character 1\)"),
        ("0:(1), 5 (2)", r"due \(character 8\)"),
        ("0:(1), 5:(2", "bracket at character 10 is never closed"),
        ("0:(1), 5:(2*)", r"at key 5 \(character 11\): the expression ends too early"),
        ("0:(1), 5:(system(1))", "at key 5 .* is no function"),
        ("0:(1), 5s:(2)", "count frames and seconds"),
        ('0:(1), 5:("lcm")', "of texts or of numbers"),
        ('0:(1), "max_f-1":(2)', "max_f is the last frame"),
        ('0:(1), "t":(2)', r"the key 't' \(character 9\)"),
        ('0:(1), "0-5":(2)', "no frame from 0 on"),
        (",".join(f"{i}:(1)" for i in range(257)), "at most 256 keys"),
        ("0:(1)" + " " * 2048, "at most 2048 characters"),
    ],
)
def test_an_error_says_what_and_where(text: str, sentence: str) -> None:
    with pytest.raises(ExprError, match=sentence):
        parse(text)
