"""A show that nobody attends to: ten cues in seconds and beats, round and round on pocket, while workers are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from support.show_run import FPS, Run
from support.theatre import write_look, write_show

from bridge.config import WorkerConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]

AFTER_S = 0.3
WORDS = ("neon", "ink", "gold", "fire", "marble", "halftone", "watercolour", "neon", "ink", "gold")


def test_every_cue_fires_within_one_frame_of_its_time(amount: Callable[[int, int], int]) -> None:
    seconds, rng = amount(600, 12), random.Random(11)
    for number, word in enumerate(WORDS):
        write_look(f"look{number}", f'[params]\nprompt = "{word}"\nseed = {1000 + number}\nstrength = 0.{number}5\n')
    waits = ('"3 beats"', "0.7", '"1 bar"', "1.3", '"2 beats"')
    cues = "".join(
        f'[[cue]]\nname = "c{n}"\nlook = "look{n}"\nmove = 0.5\nwait = {waits[n % 5]}\n' for n in range(len(WORDS))
    )
    # Seeds cut: a walk would show neighbours' numbers on its way.
    write_show("ten", "loop = true\n" + cues.replace("move = 0.5", "move = 0"))
    run = Run(show="ten", worker=WorkerConfig(engine="eager", threads=1))
    try:
        run.note_cues()
        run.until(lambda: run.app.supervisor.standby_pid, 120.0)
        run.osc.send_message("/ll/cue/go", [])
        end, kills = time.monotonic() + seconds, []
        next_kill = time.monotonic() + 2.0
        while time.monotonic() < end or not kills:
            victim = run.app.supervisor.active_pid
            if time.monotonic() > next_kill and run.app.supervisor.standby_pid and victim:
                os.kill(victim, signal.SIGKILL)
                kills.append(time.perf_counter())
                next_kill = time.monotonic() + rng.uniform(2.0, 20.0)
            time.sleep(0.05)
        seen = len(run.frames)
        run.until(lambda: len(run.frames) > seen, 60.0)
        run.check_cues(lambda fire: 1000 + int(fire.cue.name[1:]))
        names = [int(fire.cue.name[1:]) for fire in run.fired]
        assert names == [i % len(WORDS) for i in range(len(names))]
        assert len(names) > seconds / 2
        print(f"{len(names)} cues, {len(kills)} kills; {figures(run, kills)}")
    finally:
        run.close()


def figures(run: Run, kills: list[float]) -> str:
    """How late cues were: one fires with the first frame after its time, and without a worker there is none."""
    late = run.lateness()
    ms = sorted(1e3 * seconds for _, seconds in late)
    over = [at for at, seconds in late if seconds > 1 / FPS]
    killed = [at for at in over if any(-AFTER_S < kill - at < AFTER_S for kill in kills)]
    return (
        f"from due to the frame that has it: p50 {ms[len(ms) // 2]:.1f}, p99 {ms[len(ms) * 99 // 100]:.1f}, "
        f"max {ms[-1]:.1f} ms; {len(over)} over 1/{FPS} s, {len(killed)} of these within {AFTER_S} s of a kill"
    )
