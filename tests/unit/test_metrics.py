"""Counters and windows."""

from __future__ import annotations

import pytest

from bridge.clock import NS
from bridge.metrics import Metrics, Renamed, Window


def test_percentiles_and_rate() -> None:
    window = Window(size=100)
    for i in range(100):
        window.add(float(i), i * NS // 50)
    assert window.percentiles(50, 99) == (50, 99)
    assert Window().percentiles(50) == (0.0,)
    assert window.rate(99 * NS // 50) == pytest.approx(50, rel=0.05)
    assert window.rate(99 * NS // 50 + 10 * NS) == 0.0, "what has stopped has no rate"


def test_a_window_forgets_what_is_old() -> None:
    window = Window(size=10)
    for value in [1000.0] * 10 + [1.0] * 10:
        window.add(value, 0)
    assert window.percentiles(99) == (1.0,)


def test_snapshot_holds_everything() -> None:
    metrics = Metrics()
    metrics.count("source.dropped", 2)
    metrics.count("source.dropped")
    metrics.gauge("state", "running")
    metrics.observe("latency", 5.0)
    snapshot = metrics.snapshot()
    assert snapshot["source.dropped"] == 3
    assert snapshot["state"] == "running"
    assert snapshot["latency.p50"] == snapshot["latency.p99"] == 5.0
    assert metrics.get("nothing") == 0


def test_what_is_over_is_unsaid_and_what_others_said_since_stays() -> None:
    metrics = Metrics()
    second = Renamed(metrics, lambda name: f"second.{name}", "unit 2")
    for mine, said in ((metrics, "too slow"), (second, "unit 2: too slow")):
        mine.gauge("error", "too slow")
        assert metrics.snapshot()["error"] == said
        mine.unsay("error", "too slow")
        assert metrics.snapshot()["error"] == ""
        mine.gauge("error", "too slow")
        metrics.gauge("error", "the disk is full")
        mine.unsay("error", "too slow")
        assert metrics.snapshot()["error"] == "the disk is full"
    second.gauge("state", "off")
    second.unsay("state", "off")
    assert metrics.snapshot()["second.state"] == ""
