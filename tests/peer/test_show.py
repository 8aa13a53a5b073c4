"""A show through the whole program: real UDP, real worker processes that are killed while it plays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.show_run import PATIENT_S, Run
from support.theatre import write_look, write_show

from bridge.app import App
from bridge.config import Config, WebConfig, WorkerConfig
from bridge.errors import ConfigError

pytestmark = pytest.mark.usefixtures("nothing_left")

CUES = 10
WAIT_S = 0.4


def test_ten_cues_fire_with_the_first_frame_after_their_time_while_workers_are_killed(
    start: Callable[..., Run],
) -> None:
    # Each cue writes its own number where the frames carry it.
    for number in range(CUES):
        write_look(f"look{number}", f"[params]\nseed = {1000 + number}\nstrength = {number / 10}\n")
    cues = "".join(f'[[cue]]\nname = "c{n}"\nlook = "look{n}"\nwait = {WAIT_S}\n' for n in range(CUES))
    write_show("ten", cues)
    run = start(show="ten")
    player = run.note_cues()
    run.until(lambda: run.app.supervisor.standby_pid)
    run.osc.send_message("/ll/cue/go", [])
    kills = 0
    while player.index < CUES - 1:
        if run.app.supervisor.standby_pid and (victim := run.app.supervisor.active_pid) and kills < 3:
            os.kill(victim, signal.SIGKILL)
            kills += 1
        time.sleep(0.02)
        assert len(run.fed) < 3000, run.app.metrics.snapshot()
    run.until(lambda: run.frames[-1].version >= run.app.store.snapshot().version)

    # Every cue came, in order, exactly its wait after the one before, whatever happened to the workers.
    assert kills >= 1
    assert run.app.metrics.get("worker.restarts") >= 1
    assert [fire.cue.name for fire in run.fired] == [f"c{n}" for n in range(CUES)]
    times = [fire.at_s for fire in run.fired]
    assert [b - a for a, b in pairwise(times)] == pytest.approx([WAIT_S] * (CUES - 1), abs=1e-6)
    run.check_cues(lambda fire: 1000 + int(fire.cue.name[1:]))
    assert {params.seed for _, params in run.fed} == {1, *(1000 + number for number in range(CUES))}


def test_a_show_is_played_over_osc_and_told_in_telemetry(start: Callable[..., Run]) -> None:
    write_look("low", "[params]\nstrength = 0.1\n")
    write_show("mine", "[[cue]]\nname = 'a'\nlook = 'low'\n[[cue]]\nname = 'b'\nparams = { strength = 0.8 }\n")
    run = start(look="low", params={"width": 128, "height": 128, "mix": 0.75}, schedule={"mix": "0.25"})
    first = run.app.director.snapshot()
    assert (first.strength, first.mix) == (0.1, 0.25)
    run.osc.send_message("/ll/show/load", "mine")
    run.osc.send_message("/ll/cue/jump", "b")
    run.until(lambda: run.fed[-1][1].strength == 0.8)
    run.osc.send_message("/ll/cue/back", [])
    run.until(lambda: run.fed[-1][1].strength == 0.1)
    run.osc.send_message("/ll/schedule/strength", "0.5 + 0*t")
    run.until(lambda: run.fed[-1][1].strength == 0.5)
    run.osc.send_message("/ll/strength", 0.3)
    run.until(lambda: run.fed[-1][1].strength == pytest.approx(0.3))
    seen = run.app.metrics.snapshot
    run.app.director.tick()
    assert (seen()["cue"], seen()["look"], seen()["schedule.active"]) == ("1 a", "low", "mix strength (held)")
    run.until(lambda: run.frames[-1].version >= run.app.store.snapshot().version - 1)


def test_what_a_run_can_not_begin_with_is_a_sentence() -> None:
    for wrong in ({"look": "nobody"}, {"show": "nobody"}, {"look": "../x"}):
        with pytest.raises(ConfigError, match=r"nobody|name is up to"):
            App(Config(sinks=("null",), web=WebConfig(enabled=False), **wrong))  # type: ignore[arg-type]


def test_the_next_cues_size_is_built_ahead_and_taken_over_at_once(start: Callable[..., Run]) -> None:
    write_show("sizes", "[[cue]]\nparams = { width = 192 }\n[[cue]]\nparams = { width = 128, strength = 0.2 }\n")
    run = start()
    supervisor = run.app.supervisor

    def standby() -> int:
        with supervisor._lock:
            return next((c.spec.width for c in supervisor._children if c is not supervisor._active and c.ready), 0)

    run.until(lambda: standby() == 128)
    run.osc.send_message("/ll/show/load", "sizes")
    run.until(lambda: standby() == 192)
    ready = supervisor.standby_pid
    run.osc.send_message("/ll/cue/go", [])
    run.until(lambda: run.frames[-1].width == 192)
    assert supervisor.active_pid == ready
    run.until(lambda: standby() == 128)  # and now the one after it
    # A painter that dies meanwhile is replaced by what is there, and then by what is wanted.
    painter = supervisor.active_pid
    assert painter is not None
    os.kill(painter, signal.SIGKILL)
    run.until(lambda: supervisor.active_pid not in (None, painter) and run.frames[-1].width == 192)
    assert run.app.metrics.get("worker.restarts") == 1


def test_a_next_cue_that_can_not_be_built_costs_the_show_nothing(start: Callable[..., Run]) -> None:
    write_show("bad", "[[cue]]\nparams = { width = 192 }\n")
    fake = {"ms": 2.0, "fail_width": 192.0}
    run = start(worker=WorkerConfig(engine="fake", fake=fake, stall_s=PATIENT_S))
    run.osc.send_message("/ll/show/load", "bad")
    run.until(lambda: "the next cue's" in str(run.app.metrics.snapshot()["error"]))
    seen = len(run.frames)
    run.until(lambda: run.app.supervisor.standby_pid is not None and len(run.frames) > seen + 10)
    assert run.app.metrics.snapshot()["state"] == "running"
    assert run.app.metrics.get("worker.restarts") == 0


def test_going_back_to_a_look_gives_its_picture_bit_for_bit(start: Callable[..., Run], tmp_path: Path) -> None:
    """Pocket on the processor, the same input frame; in the worker that painted it first, and in one that took over."""
    still = tmp_path / "still.png"
    colours = np.random.default_rng(7).integers(0, 256, (4, 4, 3), np.uint8)
    cv2.imwrite(str(still), cv2.resize(colours, (128, 128), interpolation=cv2.INTER_CUBIC))
    worker = WorkerConfig(engine="eager", threads=1, stall_s=PATIENT_S)
    run = start(source=f"still:{still}", worker=worker, params={"width": 128, "height": 128, "prompt_fade": 0.0})

    def settled() -> np.ndarray:
        """The picture once everything that was asked for is in it."""
        run.until(lambda: run.app.metrics.snapshot().get("prompt.shown") == run.app.store.values()["prompt"], 60.0)
        version = run.app.director.snapshot().version
        seen = len(run.frames)  # of these and what is under way some have the version, but not yet the words
        run.until(lambda: len(run.frames) > seen + 4 and run.frames[-1].version >= version, 60.0)
        return run.frames[-1].pixels.copy()

    def save(name: str) -> np.ndarray:
        picture = settled()
        run.osc.send_message("/ll/look/save", name)
        run.until(lambda: name in run.app.director.looks.names())
        return picture

    def recall(name: str) -> np.ndarray:
        run.osc.send_message("/ll/look/recall", name)
        run.until(lambda: run.app.store.values()["seed"] == seeds[name])
        return settled()

    seeds = {"a": 1, "b": 77}
    first = save("a")
    changes = {"prompt": "ink", "strength": 0.9, "steps": 2, "mix": 0.8, "seed": seeds["b"]}
    for name, value in changes.items():
        run.osc.send_message(f"/ll/{name}", value)
    run.until(lambda: changes.items() <= run.app.store.values().items())
    second = save("b")
    assert not np.array_equal(first, second)
    for name, picture in (("a", first), ("b", second), ("a", first)):
        assert np.array_equal(recall(name), picture)
    run.until(lambda: run.app.supervisor.standby_pid, 60.0)
    os.kill(run.app.supervisor.active_pid, signal.SIGKILL)
    run.until(lambda: run.app.metrics.get("worker.restarts") == 1, 60.0)
    assert np.array_equal(recall("b"), second)
    assert np.array_equal(recall("a"), first)
