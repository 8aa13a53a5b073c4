"""NDI at 1280x720 and 30/s, both ways, for a minute; and a sender that is killed twenty times."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest
from support.ndi import Spawn, needs_ndi, spawn  # noqa: F401

from bridge.clock import now_ns
from bridge.config import Config, LanConfig
from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.frame import Frame, Stamps

pytestmark = [needs_ndi, pytest.mark.slow, pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]
LAN = Context(Config(lan=LanConfig(enabled=True, allow=("127.0.0.0/8",))))
NAME = f"llsoak {os.getpid()}"
FPS = 30
LATE_S = 0.25
"""What a read may take over its time on a busy machine."""

Amount = Callable[[int, int], int]


def test_in_and_killed(spawn: Spawn, amount: Amount) -> None:  # noqa: F811
    source = make_source(f"ndi:{NAME}", Context())
    source.open()
    me, slowest = psutil.Process(), 0.0

    def read(timeout: float) -> Frame | None:
        nonlocal slowest
        began = time.monotonic()
        frame = source.read(timeout)
        slowest = max(slowest, time.monotonic() - began - timeout)
        return frame

    try:
        child = spawn("send", NAME, 1280, 720, FPS)
        deadline = time.monotonic() + 20
        while read(0.1) is None:
            assert time.monotonic() < deadline
        count, end = 0, time.monotonic() + amount(60, 4)
        while time.monotonic() < end:
            count += read(0.1) is not None
        child.send_signal(signal.SIGKILL)
        assert child.stdout is not None
        sent = int(child.stdout.read().split()[-1])
        # It says so once a second, and it had begun before we were connected.
        assert count >= 0.97 * (sent - FPS)
        base = (me.num_threads(), me.num_fds())
        for _ in range(amount(20, 3)):
            child.send_signal(signal.SIGKILL)
            child.wait()
            while read(0.05) is not None:
                pass
            child = spawn("send", NAME, 1280, 720, FPS)
            deadline = time.monotonic() + 20
            while read(0.05) is None:
                assert time.monotonic() < deadline
            assert child.stdout is not None
            assert time.time() - float(child.stdout.readline()) < 2.0
        assert me.num_threads() <= base[0] + 4
        assert me.num_fds() <= base[1] + 8
    finally:
        source.close()
    assert slowest < LATE_S


def test_out(spawn: Spawn, amount: Amount) -> None:  # noqa: F811
    seconds = amount(60, 4)
    sink = make_sink(f"ndi:{NAME} out", LAN)
    sink.open()
    child = spawn("receive", f"{NAME} out", seconds)
    pixels = np.zeros((720, 1280, 3), np.uint8)
    due, sent = time.perf_counter(), 0
    try:
        while child.poll() is None:
            pixels[:, :, 2] = sent % 200
            began_with = " 1 receiver" in sink.describe()
            sink.write(Frame(pixels, sent, Stamps(now_ns())))
            sent += began_with
            due += 1 / FPS
            time.sleep(max(0.0, due - time.perf_counter()))
    finally:
        sink.close()
    assert child.stdout is not None
    seen = json.loads(child.stdout.read())
    assert {tuple(what[:2]) for what in seen} == {(1280, 720)}
    # Taken every 2 ms by a frame synchroniser that repeats and skips to keep time.
    assert len(seen) >= 0.9 * (sent - FPS)
