"""Never black: a real receiver on ZMQ watches while workers are killed and stopped, and while time goes by."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import pytest
import zmq

from bridge.app import App
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.wire import decode

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]

Amount = Callable[[int, int], int]


@dataclass
class Arrival:
    at: float
    seq: int


class Watcher:
    """Receives what the ZMQ sink sends, and when."""

    def __init__(self, address: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.socket.setsockopt(zmq.CONFLATE, 1)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)
        self.arrivals: list[Arrival] = []

    def watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.socket.poll(min(50, int(left * 1000) + 1)):
                frame = decode(self.socket.recv())
                self.arrivals.append(Arrival(time.monotonic(), frame.seq))

    def until(self, condition: Callable[[], object]) -> None:
        """Watch until then: what comes while nobody looks would be a gap."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            self.watch(0.05)

    def longest_gap(self) -> float:
        times = [a.at for a in self.arrivals]
        return max(b - a for a, b in itertools.pairwise(times))


class Pulse:
    """A thread that sleeps ten milliseconds, and how long that took at most: what a busy machine is late by itself."""

    def __init__(self) -> None:
        self._stop, self.longest = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.01):
            self.longest, last = max(self.longest, time.monotonic() - last), time.monotonic()

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self.longest


def app(port: int, ms: float = 10.0, stall_s: float = 1.0) -> App:
    return App(
        Config(
            source="scene?size=128x128&fps=60",
            sinks=(f"zmq:tcp://127.0.0.1:{port}", "null"),
            params={"width": 128, "height": 128},
            worker=WorkerConfig(engine="fake", fake={"ms": ms}, stall_s=stall_s),
            osc=OscConfig(port=0),
            web=WebConfig(enabled=False),
        )
    )


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_output_never_pauses_while_workers_go(number: signal.Signals, free_port: int, amount: Amount) -> None:
    killed = number == signal.SIGKILL
    made, rng = app(free_port, stall_s=30.0 if killed else 1.0), random.Random(7)
    kills = amount(20, 5) if killed else amount(10, 2)
    watcher, pulse = Watcher(f"tcp://127.0.0.1:{free_port}"), Pulse()
    try:
        made.start()
        wait(lambda: made.output.count > 10)
        watcher.until(lambda: watcher.arrivals)
        for _ in range(kills):
            watcher.until(lambda: made.supervisor.standby_pid and made.supervisor.active_pid)
            watcher.watch(rng.uniform(0.05, 1.0))
            victim = made.supervisor.active_pid
            assert victim is not None
            newest = watcher.arrivals[-1].seq
            os.kill(victim, number)
            # A stopped worker is silent for the second that makes it a stall.
            watcher.watch(0.5 if killed else 1.8)
            watcher.until(
                lambda n=newest, v=victim: (made.supervisor.active_pid or v) != v and watcher.arrivals[-1].seq > n
            )
        # The output repeats every 20 ms, whatever becomes of workers; the machine may be late besides.
        assert watcher.longest_gap() < 0.25 + 4 * pulse.stop()
        restarts = made.metrics.get("worker.restarts")
        assert restarts == kills or (restarts > kills and not killed), "a busy machine's may be silent for a second too"
    finally:
        pulse.stop()
        made.close()
        watcher.socket.close()


def test_hours_in_small(free_port: int, amount: Amount) -> None:
    """Memory, threads and files of the bridge stay what they are while frames, sliders and deaths go by."""
    made = app(free_port, ms=2.0)
    me = psutil.Process()
    try:
        made.start()
        wait(lambda: made.output.count > 10 and made.supervisor.standby_pid)
        rng, seconds = random.Random(3), amount(600, 12)
        base: tuple[int, int, int] | None = None
        end, settle = time.monotonic() + seconds, time.monotonic() + min(60, seconds / 3)
        next_kill = time.monotonic() + 2
        while time.monotonic() < end:
            made.store.set("strength", rng.random())
            made.store.set("prompt", f"prompt {rng.randrange(1000)}")
            if time.monotonic() > next_kill and made.supervisor.standby_pid and made.supervisor.active_pid:
                os.kill(made.supervisor.active_pid, signal.SIGKILL)
                next_kill = time.monotonic() + 5
            whole = made.supervisor.standby_pid and made.supervisor.active_pid
            if base is None and whole and time.monotonic() > settle:
                base = (me.memory_info().rss, me.num_threads(), me.num_fds())
            time.sleep(0.005)
        wait(lambda: made.supervisor.standby_pid and made.supervisor.active_pid)
        assert base is not None
        wait(lambda: me.num_threads() <= base[1] + 1 and me.num_fds() <= base[2] + 3)
        assert me.memory_info().rss - base[0] < 20 * 2**20
    finally:
        made.close()
