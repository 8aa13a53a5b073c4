"""The worker's life as a table, and when to stop trying."""

from __future__ import annotations

import itertools

import pytest

from bridge.lifecycle import TABLE, Deaths, Event, State, after


def test_everything_alive_may_die_and_the_dead_do_nothing() -> None:
    for state in State:
        if state is State.DEAD:
            assert not [event for event in Event if (state, event) in TABLE]
        else:
            assert after(state, Event.DIED) is State.DEAD


def test_only_a_warm_worker_is_promoted() -> None:
    for state in State:
        if state is State.WARM:
            assert after(state, Event.PROMOTED) is State.ACTIVE
        else:
            with pytest.raises(LookupError, match=state.value):
                after(state, Event.PROMOTED)


def test_what_is_leaving_stays_so_whatever_it_still_says() -> None:
    for event in (Event.READY, Event.REFUSED, Event.DISMISSED):
        assert after(State.LEAVING, event) is State.LEAVING


def test_every_state_is_reachable() -> None:
    seen, edge = {State.STARTING}, {State.STARTING}
    while edge:
        edge = {TABLE[s, e] for s, e in itertools.product(edge, Event) if (s, e) in TABLE} - seen
        seen |= edge
    assert seen == set(State)


def test_early_deaths_back_off_then_end_the_tries() -> None:
    deaths, pauses = Deaths(limit=5, window_s=60), []
    for i in range(5):
        assert not deaths.hopeless
        deaths.record(float(i), painted_s=0.0)
        pauses.append(deaths.pause_s)
    assert deaths.hopeless
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    deaths.forgive()
    assert not deaths.hopeless
    assert deaths.pause_s == 0.0


def test_old_early_deaths_are_forgotten() -> None:
    deaths = Deaths(limit=5, window_s=60)
    for i in range(20):
        deaths.record(i * 16.0, painted_s=0.0)
        assert not deaths.hopeless


def test_a_worker_that_painted_is_replaced_at_once_however_often() -> None:
    deaths = Deaths(limit=5, window_s=60, proven_s=1.0)
    deaths.record(0.0, painted_s=0.2)
    for i in range(20):
        deaths.record(1.0 + i, painted_s=1.5)
        assert deaths.pause_s == 0.0
    assert not deaths.hopeless
