"""A whole run while every live row, and every prompt, is moved 200 times a second: no rebuild, no restart, no gap."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.frame import Frame
from pipelines.params import ParamSpec, table
from tests.support.hammer import Hammer
from tests.support.toys import Run, register_model
from tests.unit.conftest import write_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]
TEXTS = ("neon", "ink:`cos(t)` | gold:1", "[neon|ink|gold]", "ink " * 200, "((neon", "a:`cos(`", "neon <lora:none>")
STILL = {"pause": False, "bypass": False, "steps": 1}
"""Pausing is a gap that was asked for; and what a frame costs shall be the same for all."""


def draw(dice: random.Random, row: ParamSpec) -> object:
    if row.name in STILL:
        return STILL[row.name]
    if row.choices:
        return dice.choice(row.choices)
    if row.type is str:
        return dice.choice(TEXTS)
    if row.type is bool:
        return dice.random() < 0.5
    assert row.low is not None
    assert row.high is not None
    if row.type is float:
        return dice.uniform(row.low, row.high)
    return dice.randint(int(row.low) // row.step or 1, int(row.high) // row.step) * row.step


def idle(frames: list[Frame]) -> float:
    """Seconds for which a frame lay ready, at most, and the worker did nothing."""
    stamps = [frame.stamps for frame in frames]
    return max(b.taken - max(a.done, b.fed) for a, b in itertools.pairwise(stamps)) / 1e9


def work(frames: list[Frame]) -> float:
    """Seconds that a frame takes, median."""
    return statistics.median(frame.stamps.done - frame.stamps.taken for frame in frames) / 1e9


def watch(run: Run, seconds: float) -> list[Frame]:
    before, painted, end = len(run.frames), run.painted, time.monotonic() + seconds
    run.until(lambda: time.monotonic() > end and run.painted > painted + 10)
    frames = run.frames[before:]
    return [frame for n, frame in enumerate(frames) if n == 0 or frame.stamps.done != frames[n - 1].stamps.done]


def test_nothing_that_people_move_stops_the_show(tmp_path: Path, amount: Callable[[int, int], int]) -> None:
    write_model(tmp_path / "sd15", "sd15", tiny=True, prediction="epsilon")
    register_model(tmp_path / "sd15")
    run, seconds = Run(standby=False), amount(30, 5)
    rows = [row for row in table().values() if row.kind != "structural" and not row.ids]
    try:
        run.until(lambda: run.painted > 3)
        painter = run.app.supervisor.active_pid
        quiet = watch(run, seconds)
        with Hammer(run.app.store, rows, draw) as hammer:
            run.until(lambda: hammer.all_moved)
            moved = watch(run, seconds)
        versions = [frame.version for frame in moved]
        assert versions == sorted(versions)
        assert len(set(versions)) > 5
        counts = [run.app.metrics.get(f"worker.{name}") for name in ("restarts", "stalls", "refused", "skipped")]
        assert counts == [0, 0, 0, 0]
        assert run.app.supervisor.active_pid == painter
        assert idle(moved) <= idle(quiet) + 2 * max(work(quiet), work(moved))
    finally:
        run.close()
