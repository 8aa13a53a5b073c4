"""What the component tells a bridge that it has found: what differs, and nothing that a schedule moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from td.component import Stage, ready


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = ready(tmp_path)
    yield made
    made.close()


def found(stage: Stage, monkeypatch: pytest.MonkeyPatch, active: str, **other: object) -> dict[str, Any]:
    """What is told to a bridge that stands as the component does but for `other`, with these schedules."""
    sync = stage.ext.sync
    said: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sync, "_send", lambda *words, asBundle: said.append(words))
    sync.ours, sync._in_step = True, False
    for name, row in sync.rows.items():
        sync.heard(row["address"], [other.get(name, sync.plain(name))])
    sync.heard("/ll/schedule/active", [active])
    sync.push()
    assert len(said) <= 1, "one bundle, or none"
    return {words[i]: words[i + 1][0] for words in said for i in range(0, len(words), 2)}


def test_nothing_is_told_to_a_bridge_that_stands_as_we_do(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(stage, monkeypatch, "") == {}


def test_ours_wins_where_it_differs_and_no_schedule_is_taken_in_hand(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.comp.par.Strength, stage.comp.par.Mix, stage.comp.par.Eta = 0.25, 0.5, 0.75
    stage.frame()
    stage.ext.sync._touched.clear()
    other = {"Strength": 0.9, "Mix": 0.1, "Eta": 0.2}
    told = found(stage, monkeypatch, "strength control/1/weight eta (held)", **other)
    assert told == {"/ll/mix": 0.5, "/ll/eta": 0.75}


def test_what_the_user_moved_while_no_bridge_was_there_counts_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.ext.sync, "_in_step", False)
    stage.comp.par.Strength = 0.25
    stage.frame()
    assert found(stage, monkeypatch, "strength", Strength=0.9) == {"/ll/strength": 0.25}
    assert found(stage, monkeypatch, "strength", Strength=0.9) == {}, "once"


def test_a_new_bridge_is_told_all_that_it_has_not_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = stage.ext.sync
    assert found(stage, monkeypatch, "strength") == {}
    sync.forget()
    said: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sync, "_send", lambda *words, asBundle: said.append(words))
    sync.push()
    assert len(said[0]) == 2 * len(sync.rows)
