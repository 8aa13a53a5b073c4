"""Counters and windows."""

from __future__ import annotations

import pytest

from bridge.clock import NS
from bridge.metrics import Metrics, Window


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
