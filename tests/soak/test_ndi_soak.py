"""NDI at 1280x720 and 30/s, both ways, for a minute; and a sender that is killed twenty times.

The short form is for busy machines too: it asks for a part of the pictures, and for no more than an end of each wait.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest
from support.ndi import Spawn, heard, ndi_alone, needs_ndi, spawn  # noqa: F401

from bridge.clock import now_ns
from bridge.config import Config, LanConfig
from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.frame import Frame, Stamps

pytestmark = [
    needs_ndi,
    pytest.mark.slow,
    pytest.mark.usefixtures("ndi_alone", "nothing_left"),
    pytest.mark.timeout(900),
]
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
        deadline = time.monotonic() + 60
        while read(0.1) is None:
            assert time.monotonic() < deadline
        count, end = 0, time.monotonic() + amount(60, 4)
        while time.monotonic() < end:
            count += read(0.1) is not None
        child.send_signal(signal.SIGKILL)
        assert child.stdout is not None
        sent = int(child.stdout.read().split()[-1])
        # It says so once a second, and it had begun before we were connected.
        assert count >= amount(97, 30) / 100 * (sent - FPS)
        base = (me.num_threads(), me.num_fds())
        waits = []
        for _ in range(amount(20, 3)):
            child.kill()
            child.wait()
            child.stdout.close()  # a pipe of ours, which is not what is counted below
            while read(0.05) is not None:
                pass
            child = spawn("send", NAME, 1280, 720, FPS)
            deadline = time.monotonic() + 60
            while read(0.05) is None:
                assert time.monotonic() < deadline
            assert child.stdout is not None
            waits.append(time.time() - float(child.stdout.readline()))
        assert max(waits) < amount(2, 20)
        back = f"{sorted(waits)[len(waits) // 2]:.2f} s, at most {max(waits):.2f}"
        more = f"{me.num_threads() - base[0]:+} threads, {me.num_fds() - base[1]:+} files"
        late = f"slowest read {slowest * 1000:.0f} ms over its time"
        print(f"\nin: {count} of {sent} pictures; back after a kill in {back}; {late}; {more}")
        assert me.num_threads() <= base[0] + 4
        assert me.num_fds() <= base[1] + 8
    finally:
        source.close()
    assert slowest < amount(1, 20) * LATE_S


def test_out(spawn: Spawn, amount: Amount) -> None:  # noqa: F811
    seconds = amount(60, 4)
    sink = make_sink(f"ndi:{NAME} out", LAN)
    sink.open()
    pixels = np.zeros((720, 1280, 3), np.uint8)
    due, run, sent = time.perf_counter(), 0, 0

    def send() -> None:
        nonlocal due, run, sent
        pixels[:, :, 2] = run % 200
        # Those before it has connected are nobody's; one that crashed had seen some.
        run = run + 1 if " 1 receiver" in sink.describe() else 0
        sent = max(sent, run)
        sink.write(Frame(pixels, run, Stamps(now_ns())))
        due += 1 / FPS
        time.sleep(max(0.0, due - time.perf_counter()))

    try:
        seen = heard(spawn, "watch", f"{NAME} out", seconds, meanwhile=send)
    finally:
        sink.close()
    print(f"\nout: {len(seen)} of {sent} in {seconds} s")
    assert {tuple(what[:2]) for what in seen} == {(1280, 720)}
    # Taken every 2 ms by a frame synchroniser that repeats and skips to keep time.
    assert len(seen) >= amount(90, 30) / 100 * (sent - FPS)


def test_opened_again_and_again_it_leaves_nothing(amount: Amount) -> None:
    source, sink, me = (
        make_source(f"ndi:{NAME} nobody", Context()),
        make_sink(f"ndi:{NAME} again", LAN),
        psutil.Process(),
    )
    base: tuple[int, int, int] | None = None
    for number in range(amount(1000, 12)):
        source.open()
        assert source.read(0.01) is None
        source.close()
        sink.open()
        sink.write(Frame(np.zeros((64, 64, 3), np.uint8), 0))
        sink.close()
        if number == 10:
            base = me.num_threads(), me.num_fds(), me.memory_info().rss
    assert base is not None
    end = me.num_threads(), me.num_fds(), me.memory_info().rss
    more = f"{end[0] - base[0]:+} threads, {end[1] - base[1]:+} files, {(end[2] - base[2]) / 2**20:+.1f} MiB"
    print(f"\nopened {number + 1} times: {more}")
    assert end[0] <= base[0] + 1
    assert end[1] <= base[1] + 2
    assert end[2] - base[2] < 20 * 2**20
