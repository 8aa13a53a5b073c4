"""Prompts in a whole run: worker processes with real, small networks behind OSC and shared memory."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.toys import Run, register_model
from tests.unit.conftest import write_model

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "sd15"
    write_model(folder, "sd15", tiny=True, prediction="epsilon")
    return folder


@pytest.fixture
def start(toy: Path) -> Iterator[Callable[..., Run]]:
    register_model(toy)
    runs: list[Run] = []

    def make(prompt: str, standby: bool = False) -> Run:
        runs.append(Run(standby, prompt=prompt, prompt_fade=0.0))
        runs[-1].until(lambda: runs[-1].painted > 3)
        return runs[-1]

    yield make
    for run in runs:
        run.close()


def test_no_prompt_stops_the_show_and_each_gets_its_sentence(start: Callable[..., Run]) -> None:
    run = start("neon")
    painter = run.app.supervisor.active_pid
    for prompt, note in (
        ("ink " * 300, "it is cut"),
        ("neon:`cos(` | ink:1", "`cos(`: "),
        ("neon <hypernet:nowhere:0.8>", "there is no hypernet 'nowhere'"),
        ("neon <style:nothing>", "there is no style 'nothing'"),
        ("a AND b", "AND is blended"),
        ("((([ink:gold", ""),
        ("neon:`1/0` | ink:`nobody`", "nobody"),
    ):
        run.osc.send_message("/ll/prompt", prompt)
        run.until(lambda p=prompt: run.told("prompt.shown") == p)
        run.until(lambda n=note: n in run.told("prompt.notes"))
        seen = run.painted
        run.until(lambda s=seen: run.painted > s + 3)
        assert run.told("prompt.error") == ""
    run.osc.send_message("/ll/prompt", "gold")
    run.until(lambda: run.told("prompt.shown") == "gold" and run.told("prompt.notes") == "")
    assert run.app.supervisor.active_pid == painter
    assert (run.app.metrics.get("worker.restarts"), run.app.metrics.get("worker.skipped")) == (0, 0)
    numbers = [frame.seq for frame in run.frames]
    assert all(b >= a for a, b in itertools.pairwise(numbers))


def test_a_prompts_time_goes_on_when_the_painter_is_killed(start: Callable[..., Run]) -> None:
    run = start("[neon|ink|gold]", standby=True)
    run.osc.send_message("/ll/prompt_rate", 20.0)
    run.until(lambda: run.app.supervisor.standby_pid and run.step() > 60)
    line = run.app.store.snapshot().prompt_line
    assert line is not None
    victim, before = run.app.supervisor.active_pid, run.step()
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    run.until(lambda: run.app.supervisor.active_pid not in (None, victim))
    told = [run.step()]
    seen = run.painted
    run.until(lambda: told.append(run.step()) or run.painted > seen + 5)
    assert min(told) >= before, "it began anew"
    run.until(lambda: before < run.step() and abs(run.step() - line.at(time.perf_counter()).step) < 40)
    assert run.app.metrics.get("worker.restarts") == 1
