"""The log of the desk, and what the meters show beyond the readings."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from bridge.metrics import Metrics
from bridge.setting import Setting
from bridge.web.figures import EDGES_MS, detail, histogram
from bridge.web.journal import KEPT, Journal, who


@pytest.fixture
def posted() -> list[Callable[[], None]]:
    return []


@pytest.fixture
def journal(posted: list[Callable[[], None]]) -> Journal:
    return Journal(posted.append)


def texts(journal: Journal) -> list[str]:
    return [f"{entry.who}: {entry.text}" for entry in journal.all()]


def test_a_slider_that_goes_on_moving_is_one_entry(journal: Journal) -> None:
    for value in (0.1, 0.2, 0.35):
        journal.moved(Setting("strength", value, origin="desk 1"))
    journal.moved(Setting("strength", 0.5, 2.0, origin=("10.0.0.7", 9001)))
    journal.moved(Setting("seed", 7, origin="desk 1"))
    journal.moved(Setting("mix", 0.5))  # a look, a cue
    assert texts(journal) == [
        "desk 1: strength → 0.35",
        "OSC 10.0.0.7: strength → 0.5 in 2 s",
        "desk 1: seed → 7",
    ]
    assert [entry.number for entry in journal.fresh()] == [1, 2, 3]
    assert journal.fresh() == ()
    journal.moved(Setting("strength", 0.4, origin="desk 1"))
    assert [(entry.number, entry.text) for entry in journal.fresh()] == [(1, "strength → 0.4")]


def test_it_forgets_the_oldest(journal: Journal) -> None:
    for number in range(KEPT + 5):
        journal.note("note", str(number))
    assert len(journal.all()) == KEPT
    assert journal.all()[0].text == "5"


def test_warnings_come_over_from_any_thread_and_nothing_below_them(
    journal: Journal, posted: list[Callable[[], None]]
) -> None:
    log = logging.getLogger("livelatent.test_journal")
    log.addHandler(journal)
    try:
        log.info("nothing of note")
        log.warning("port %d is taken", 80)
        log.error("the camera is gone")
    finally:
        log.removeHandler(journal)
    assert journal.all() == ()
    for job in posted:
        job()
    assert [(entry.kind, entry.text) for entry in journal.all()] == [
        ("warning", "port 80 is taken"),
        ("error", "the camera is gone"),
    ]
    journal.note("error", "the camera is gone")  # the same, as the run's last error
    assert len(journal.all()) == 2


def test_who() -> None:
    assert [who(origin) for origin in (None, "phone 2", ("::1", 9000), ())] == ["", "phone 2", "OSC ::1", "()"]


def test_a_histogram_counts_each_value_in_the_first_bin_that_holds_it() -> None:
    edges = dict(zip(EDGES_MS, histogram((-3.0, 0.0, 4.0, 4.01, 8.0, 33.0, 4096.0, 1e9, float("inf"))), strict=True))
    assert {edge: n for edge, n in edges.items() if n} == {4.0: 3, 5.0: 1, 8.0: 1, 40.3: 1, 4096.0: 3}


def test_the_meters_say_where_time_went_and_what_was_lost() -> None:
    metrics = Metrics()
    for name, took in {"fed": 1.0, "wait": 2.0, "frame": 30.0, "out": 4.0, "latency": 37.0}.items():
        metrics.observe(name, took)
    metrics.count("source.dropped", 3)
    metrics.count("osc.messages", 9)
    metrics.count("osc.rejected", 0)
    metrics.gauge("memory.used", 1.5)
    said = detail(metrics)
    assert list(said.stages.items()) == [
        ("before", (1.0, 1.0)),
        ("waiting", (2.0, 2.0)),
        ("painting", (30.0, 30.0)),
        ("shown", (4.0, 4.0)),
    ]
    assert said.memory == (1.5, 0.0)
    assert said.lost == {"source.dropped": 3}
    assert sum(said.latencies) == 1
