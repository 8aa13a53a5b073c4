"""Ramps: where a number is on its way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ramp import Ramp, at_travel, travel
from pipelines.params import ParamSpec, table

LINEAR = table()["strength"]
SQUARE = table()["prompt_fade"]
LOG = replace(LINEAR, name="cutoff", low=20.0, high=20_000.0, curve="log")
WHOLE = replace(LINEAR, name="count", type=int, low=0, high=10)


def test_a_linear_row_moves_evenly_and_ends_exactly() -> None:
    ramp = Ramp(LINEAR, 0.1, 0.7, 1000, 2000)
    assert ramp.at(0) == ramp.at(1000) == 0.1
    assert ramp.at(1500) == pytest.approx(0.4)
    assert ramp.at(2000) == ramp.at(10**18) == 0.7
    assert not ramp.done(1999)
    assert ramp.done(2000)


def test_a_log_row_moves_by_equal_factors() -> None:
    ramp = Ramp(LOG, 20.0, 20_000.0, 0, 300)
    assert [ramp.at(t) for t in (0, 100, 200, 300)] == pytest.approx([20, 200, 2000, 20_000])


def test_a_square_row_moves_as_the_slider_would() -> None:
    ramp = Ramp(SQUARE, 0.0, 60.0, 0, 100)
    assert ramp.at(50) == pytest.approx(15.0)


def test_a_whole_number_row_is_rounded() -> None:
    ramp = Ramp(WHOLE, 0, 10, 0, 100)
    values = [ramp.at(t) for t in range(0, 101, 5)]
    assert all(type(value) is int for value in values)
    assert values[0] == 0
    assert values[10] == 5
    assert (ramp.at(54), ramp.at(57)) == (5, 6)
    assert values[-1] == 10
    assert values == sorted(values)


def test_a_log_row_that_reaches_zero_moves_linearly() -> None:
    spec = replace(LOG, low=0.0, high=1.0)
    assert Ramp(spec, 0.0, 1.0, 0, 100).at(25) == pytest.approx(0.25)


@given(
    spec=st.sampled_from([LINEAR, SQUARE, LOG]),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    times=st.lists(st.integers(-5, 1005), min_size=2, max_size=10),
)
def test_it_never_overshoots_nor_turns_back(spec: ParamSpec, ends: tuple[float, float], times: list[int]) -> None:
    start, target = (at_travel(spec, end) for end in ends)
    ramp = Ramp(spec, start, target, 0, 1000)
    values = [ramp.at(t) for t in sorted(times)]
    assert all(min(start, target) <= value <= max(start, target) for value in values)
    assert values == sorted(values, reverse=target < start)


@given(spec=st.sampled_from([LINEAR, SQUARE, LOG]), position=st.floats(0, 1))
def test_travel_and_value_are_inverse(spec: ParamSpec, position: float) -> None:
    assert travel(spec, at_travel(spec, position)) == pytest.approx(position, abs=1e-9)
