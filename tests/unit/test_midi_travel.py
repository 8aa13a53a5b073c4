"""Between a control's place and a parameter's value, and soft take-over."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.midi.travel import INVERSE, Pickup, Travel
from pipelines.drive import CURVES
from pipelines.params import table

NUMBERS = sorted(name for name, row in table().items() if row.type in (int, float) and row.low is not None)


def whole(name: str, curve: str = "linear") -> Travel:
    row = table()[name]
    assert row.low is not None
    assert row.high is not None
    return Travel(row, row.low, row.high, curve)


def test_there_is_an_inverse_for_every_curve() -> None:
    assert INVERSE.keys() == CURVES.keys()
    for curve, undo in INVERSE.items():
        for i in range(101):
            assert undo(CURVES[curve](i / 100)) == pytest.approx(i / 100, abs=1e-9), curve


@given(st.sampled_from(NUMBERS), st.sampled_from(sorted(CURVES)), st.floats(0, 1), st.booleans())
@settings(derandomize=True, max_examples=300)
def test_every_place_is_a_value_that_the_row_takes_and_finds_its_place_again(
    name: str, curve: str, place: float, flipped: bool
) -> None:
    travel = whole(name, curve)
    if flipped:
        travel = travel._replace(low=travel.high, high=travel.low)
    value = travel.value(place)
    assert travel.spec.coerce(value) == value
    again = travel.value(travel.position(value))
    if travel.spec.type is int:
        assert again == value
    else:
        assert again == pytest.approx(value, rel=1e-4, abs=1e-4 * abs(travel.high - travel.low))


@pytest.mark.parametrize("name", NUMBERS)
def test_the_ends_are_exact(name: str) -> None:
    travel = whole(name)
    assert (travel.value(0.0), travel.value(1.0)) == (travel.low, travel.high)


def test_choices_and_switches_share_the_way() -> None:
    sampler = Travel(table()["sampler"], 0, 1)
    assert [sampler.value(i / 10) for i in range(11)] == [
        *("auto", "auto", "lcm", "lcm", "turbo", "turbo", "tcd", "tcd", "ddim", "ddim", "ddim")
    ]
    assert all(sampler.value(sampler.position(choice)) == choice for choice in sampler.spec.choices)
    switch = Travel(table()["bypass"], 0, 1)
    assert (switch.value(0.49), switch.value(0.5)) == (False, True)
    upside_down = switch._replace(low=1.0, high=0.0)
    assert (upside_down.value(0.0), upside_down.value(1.0), upside_down.position(True)) == (True, False, 0.0)


@given(
    st.floats(0, 1),
    st.lists(st.one_of(st.integers(0, 127).map(lambda n: n / 127), st.floats(0, 1)), max_size=30),
    st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=30),
)
@settings(derandomize=True, max_examples=400)
def test_a_knob_never_moves_a_value_by_more_than_it_was_moved_itself(
    start: float, places: list[float], others: list[float | None]
) -> None:
    """`others`: somebody else sets the value in between."""
    near = 1.5 / 127
    pickup, value, last = Pickup(near), start, None
    for place, other in zip(places, others, strict=False):
        value = value if other is None else other
        if pickup.takes(place, value, value):
            moved = abs(place - value)
            assert moved <= near + 1e-12 or (last is not None and moved <= abs(place - last) + 1e-12)
            value = place
            pickup.took(value)
        last = place


def test_a_knob_that_has_the_value_keeps_it_until_somebody_else_moves_that() -> None:
    pickup = Pickup(0.01)
    assert not pickup.takes(0.2, 0.5, 0.5)
    assert not pickup.takes(0.4, 0.5, 0.5)
    assert pickup.takes(0.6, 0.5, 0.5)  # it has passed it
    pickup.took(0.6)
    assert pickup.takes(0.9, 0.6, 0.6)  # as fast as one likes
    pickup.took(0.9)
    assert not pickup.takes(0.8, 0.1, 0.1)
    assert not pickup.takes(0.3, 0.1, 0.1)
    assert pickup.takes(0.105, 0.1, 0.1)  # it has come near
