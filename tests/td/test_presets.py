"""Presets of the component: one bundle, fades, expressions, and what outlives the building anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from td.component import Stage, build, ready


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = ready(tmp_path)
    yield made
    made.close()


def heard(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], bool]]:
    """What is told to a bridge that the component believes itself in step with."""
    said: list[tuple[tuple[Any, ...], bool]] = []
    monkeypatch.setattr(stage.ext.sync, "_send", lambda *words, asBundle: said.append((words, asBundle)))
    monkeypatch.setattr(stage.ext.sync, "_in_step", True)
    return said


@pytest.mark.parametrize("deferred", [True, False])
def test_a_preset_brings_back_how_it_stood_in_one_bundle(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, deferred: bool
) -> None:
    stage.world._deferred = deferred
    par = stage.comp.par
    par.Strength, par.Prompt, par.Sampler, par.Width, par.Seed = 0.3, "ink", "ddim", 512, 5
    par.Preset = "calm blue"
    par.Store.pulse()
    stage.frame()
    assert par.Preset.menuNames == ["calm blue"]
    par.Strength, par.Prompt, par.Sampler, par.Width, par.Pause, par.Seed = 0.9, "gold", "lcm", 256, True, 5
    par.Mix.expr = "0.25 + 0.5"
    stage.frame()
    said = heard(stage, monkeypatch)
    par.Recall.pulse()
    stage.frame()
    assert (stage.par("Strength"), stage.par("Prompt"), stage.par("Sampler")) == (0.3, "ink", "ddim")
    assert (stage.par("Width"), stage.par("Pause")) == (256, True), "neither the model's size nor an act is a look"
    assert par.Mix.mode.name == "EXPRESSION"
    bundles = [words for words, bundled in said if bundled]
    told = {words[i]: words[i + 1] for words in bundles for i in range(0, len(words), 2)}
    assert len(bundles) == 1
    assert told == {"/ll/strength": [0.3], "/ll/prompt": ["ink"], "/ll/sampler": ["ddim"]}
    singles = {words[0] for words, bundled in said if not bundled}
    assert not singles & set(told), "what the bundle says is not said again"


def test_a_preset_fades_in_the_bridge(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    par = stage.comp.par
    par.Preset, par.Strength, par.Sampler = "a", 0.3, "ddim"
    par.Store.pulse()
    stage.frame()
    par.Strength, par.Sampler, par.Fade = 0.9, "lcm", 4
    stage.frame()
    said = heard(stage, monkeypatch)
    par.Recall.pulse()
    stage.frame()
    ((words, _),) = [entry for entry in said if entry[1]]
    assert words == ("/ll/sampler", ["ddim"], "/ll/strength", [0.3, 4.0])
    fading = {name for name, row in stage.ext.sync.rows.items() if row.get("fades")}
    assert {"Strength", "Prompt", "Control1weight"} <= fading
    assert not {"Sampler", "Steps", "Model", "Pause"} & fading


def test_presets_outlive_the_building_anew_and_what_people_write_into_them(stage: Stage, tmp_path: Path) -> None:
    par, dat = stage.comp.par, stage.comp.op("presets")
    par.Recall.pulse()
    stage.frame()
    assert "no preset ''" in stage.ext.sync.refusal()
    for name, strength in (("one", 0.1), ("two", 0.2)):
        par.Preset, par.Strength = name, strength
        par.Store.pulse()
        stage.frame()
    kept = json.loads(dat.text)
    kept["two"] |= {"Strength": 7, "Sampler": "no such", "Nothing": 1, "Steps": None, "Active": False}
    dat.text = json.dumps(kept)
    stage.comp = build(stage.world, tmp_path)
    par = stage.comp.par
    assert par.Preset.menuNames == ["one", "two"]
    par.Recall.pulse()
    stage.frame()
    assert (stage.par("Preset"), stage.par("Strength"), stage.par("Active")) == ("two", 1.0, True)
    assert "Steps" in stage.ext.sync.refusal() or "Sampler" in stage.ext.sync.refusal()
    par.Delete.pulse()
    stage.frame()
    assert list(json.loads(stage.comp.op("presets").text)) == ["one"]
    for broken in ("{", "[]", "nothing"):
        stage.comp.op("presets").text = broken
        par.Recall.pulse()
        stage.frame()
        assert "no preset" in stage.ext.sync.refusal()
