"""Sinks on a grid: no drift, no flicker between repeat and skip when two clocks are almost equal."""

from __future__ import annotations

import itertools
import random

from bridge.clock import NS
from bridge.pacing import Grid


def simulate(producer_fps: float, sink_fps: float, seconds: float, jitter_s: float, guard: float) -> list[int | None]:
    """What a grid writes in virtual time: the number of a new frame, or None for a repeat."""
    rng = random.Random(5)
    arrivals, t, i = [], 0.0, 0
    while t < seconds:
        arrivals.append((int((t + rng.uniform(0, jitter_s)) * NS), i))
        t, i = t + 1 / producer_fps, i + 1
    grid, out, have, at = Grid(sink_fps, 0, guard), [], None, 0
    position = 0

    def newest(until: int) -> int | None:
        nonlocal position
        got = None
        while position < len(arrivals) and arrivals[position][0] <= until:
            got, position = arrivals[position][1], position + 1
        return got

    while grid.next_ns < seconds * NS:
        at = grid.next_ns
        have = newest(at)
        if have is None and (limit := grid.due_ns(have_new=False)) > at:
            at = min(limit, arrivals[position][0]) if position < len(arrivals) else limit
            have = newest(at)
        out.append(have)
        grid.wrote(at, have is not None)
    return out


def flips(out: list[int | None]) -> int:
    """Repeats that are followed within three ticks by a skip: what the eye sees as stutter."""
    count, last = 0, -1
    for i, item in enumerate(out):
        if item is None:
            following = [x for x in out[i + 1 : i + 4] if x is not None]
            if any(b - a > 1 for a, b in zip([last, *following], following, strict=False)):
                count += 1
        else:
            last = item
    return count


def test_hysteresis_stops_the_stutter_of_nearly_equal_clocks() -> None:
    plain = simulate(59.94, 60, 120, jitter_s=0.002, guard=0.0)
    held = simulate(59.94, 60, 120, jitter_s=0.002, guard=0.15)
    assert flips(plain) > 10, "the case must be one that stutters without the guard"
    assert flips(held) <= flips(plain) // 5


def test_repeats_and_skips_match_theory() -> None:
    slower = simulate(50, 60, 60, jitter_s=0.0, guard=0.15)
    repeats = sum(item is None for item in slower)
    assert abs(repeats - 600) <= 30, "60 ticks a second from 50 frames repeat ten"
    faster = [x for x in simulate(75, 60, 60, jitter_s=0.0, guard=0.15) if x is not None]
    skipped = sum(b - a - 1 for a, b in itertools.pairwise(faster))
    assert abs(skipped - 900) <= 45, "60 ticks a second from 75 frames skip fifteen"


def test_ticks_do_not_drift_and_missed_ones_are_counted() -> None:
    grid = Grid(50, 0)
    assert grid.next_ns == NS // 50
    for i in range(1, 100):
        assert grid.wrote(i * NS // 50 + 3_000_000, True) == 0
    assert grid.next_ns == 100 * NS // 50
    assert grid.wrote(110 * NS // 50, True) == 9
    assert grid.next_ns > 109 * NS // 50
