"""Two real processes, a writer that is killed at random moments: no torn frame, none twice, none out of order."""

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bridge.ring import RingReader, RingWriter
from bridge.ring_layout import Word

HERE = Path(__file__).parent
CHILD = HERE / "ring_child.py"
STEP = 2_654_435_761
SIDE = 1024


def start(*arguments):
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=env, stderr=subprocess.PIPE)


def stop(child):
    child.kill()
    child.wait(60)
    child.stderr.close()


@dataclass
class Tally:
    frames: int = 0
    torn: int = 0
    stale: int = 0
    kills: int = 0
    left_odd: int = 0
    retries: int = 0
    slowest_read_s: float = 0.0


def whole(got, base, out):
    """Whether each pixel belongs to the frame that the header names; every one of them is looked at."""
    seq = got.frame.seq
    words = got.frame.pixels.view(np.uint32).reshape(-1)
    np.subtract(words, base, out=out)
    return got.blob == seq.to_bytes(8, "little") and (out == np.uint32(seq * STEP % 2**32)).all()


def odd_slots(ring):
    return sum(ring._words[ring._geometry.slot_at(i) // 8] & 1 for i in range(3))


def run(frames, kills, seed):
    rng = random.Random(seed)
    ring = RingWriter.create(SIDE * SIDE * 4)
    reader = RingReader(ring.name)
    tally = Tally()
    base = np.arange(SIDE * SIDE, dtype=np.uint32) * np.uint32(STEP)
    scratch = np.empty_like(base)
    last = -1
    child = start(CHILD, ring.name, 0, SIDE)
    try:
        each = frames // (kills + 1)
        while tally.frames < frames:
            until = min(frames, tally.frames + rng.randint(each // 2, each)) if tally.kills < kills else frames
            began = time.perf_counter()
            while tally.frames < until:
                assert child.poll() is None, child.stderr.read().decode()
                assert time.perf_counter() - began < 60
                if not reader.wait(1.0):
                    continue
                at = time.perf_counter()
                got = reader.read()
                tally.slowest_read_s = max(tally.slowest_read_s, time.perf_counter() - at)
                if got is None:
                    continue
                tally.torn += not whole(got, base, scratch)
                tally.stale += got.frame.seq <= last or got.epoch != tally.kills
                last = got.frame.seq
                tally.frames += 1
            if tally.kills == kills:
                break
            time.sleep(rng.random() * 0.002)
            child.kill()
            child.wait(60)
            child.stderr.close()
            tally.left_odd += odd_slots(ring) > 0
            reader.read()
            tally.kills += 1
            child = start(CHILD, ring.name, tally.kills * 1_000_000, SIDE)
        tally.retries = reader.torn
    finally:
        stop(child)
        reader.close()
        ring.close()
        ring.unlink()
    return tally


def test_no_torn_frame_while_the_writer_is_killed():
    tally = run(1_500, 6, seed=1)
    assert (tally.torn, tally.stale, tally.kills) == (0, 0, 6)
    assert tally.frames >= 1_500


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_torn_frame_in_twenty_thousand_while_the_writer_is_killed_fifty_times(amount):
    kills = amount(50, 10)
    tally = run(amount(20_000, 4_000), kills, seed=2)
    print(tally)
    assert (tally.torn, tally.stale, tally.kills) == (0, 0, kills)
    assert tally.left_odd > 0, "no kill hit a write: the run proved nothing"


def test_a_writer_stopped_while_another_took_over_ends_by_itself():
    ring = RingWriter.create(SIDE * SIDE * 4)
    reader = RingReader(ring.name)
    child = start(CHILD, ring.name, 0, SIDE)
    try:
        assert reader.wait(30)
        heir = RingWriter.attach(ring.name)
        assert child.wait(30) != 0
        assert b"taken over" in child.stderr.read()
        assert heir._words[Word.GENERATION] == heir.generation
        heir.close()
    finally:
        stop(child)
        reader.close()
        ring.close()
        ring.unlink()
