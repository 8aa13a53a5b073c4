"""50,000 messages a second, over 200 addresses, from another process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bridge.clock import MS, now_ns
from bridge.config import LanConfig, OscConfig
from bridge.control import Control
from bridge.dispatch import answer
from bridge.metrics import Metrics
from bridge.osc import build
from bridge.store import ParamStore
from pipelines.params import Params

ROOT = Path(__file__).parents[2]
RATE = 50_000
WARM_S = 0.7
GROWTH = 8 << 20
TICK_NS = 1_000 * MS // 60


class FrameLoop:
    """What a flood must not disturb: a thread that takes a snapshot sixty times a second, and how late it came."""

    def __init__(self, store: ParamStore) -> None:
        self._store = store
        self._stop = threading.Event()
        self.late_ms: list[float] = []
        self.versions: list[int] = []
        self._thread = threading.Thread(target=self._run, name="ll-test-frames")
        self._thread.start()

    def _run(self) -> None:
        due = now_ns()
        while not self._stop.is_set():
            due += TICK_NS
            time.sleep(max(0, due - now_ns()) / 1e9)
            self.late_ms.append((now_ns() - due) / MS)
            self.versions.append(self._store.snapshot().version)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)


def flood(seconds: float) -> str:
    """Floods a Control and asserts what must hold; returns the figures."""
    metrics = Metrics()
    none = {kind: lambda: ("none",) for kind in ("controlnets", "ipadapters")}
    store = ParamStore(Params(), {"models": lambda: ("pocket",), **none})
    control = Control(OscConfig(port=0, rate=20), LanConfig(), store, metrics, {})
    control.start()
    frames = FrameLoop(store)
    process = psutil.Process()
    command = [sys.executable, str(ROOT / "tests/peer/osc_flood_child.py"), str(control.port), str(RATE), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        while metrics.get("osc.messages") < RATE * WARM_S and child.poll() is None:
            time.sleep(0.01)
        memory, threads, cpu = process.memory_info().rss, threading.active_count(), process.cpu_times()
        out, _ = child.communicate(timeout=seconds * 6 + 30)
        told = json.loads(out)
        lost = settle(metrics, told["sent"])
        grown, used = process.memory_info().rss - memory, process.cpu_times()
        assert grown < GROWTH
        assert threading.active_count() <= threads
        if lost:  # the system dropped some, maybe a last one: a slider that still stands there says so again
            say_again(control.port, told["last"])
        wait_for(lambda: {name: store.values()[name] for name in told["last"]} == pytest.approx(told["last"]))
        values = store.values()
        untouched = {name: v for name, v in values.items() if name not in told["last"]}
        assert untouched == {name: getattr(Params(), name) for name in untouched}
        assert metrics.get("osc.rejected") == metrics.get("osc.rejected.address")
        assert frames.versions == sorted(frames.versions)
    finally:
        frames.stop()
        control.stop()
        child.kill()
        child.wait()
    late = sorted(frames.late_ms)
    return (
        f"{told['sent']} messages in {told['took']:.1f} s ({told['sent'] / told['took']:.0f}/s), {lost} lost, "
        f"memory {grown / 2**20:+.1f} MiB, CPU {used.user + used.system - cpu.user - cpu.system:.1f} s, "
        f"60 Hz loop late by p50 {late[len(late) // 2]:.2f}, p99 {late[int(len(late) * 0.99)]:.2f} ms"
    )


def settle(metrics: Metrics, sent: int) -> int:
    """Waits until every datagram is accounted for, taken or lost; returns how many the system lost."""
    if not sys.platform.startswith("linux"):
        time.sleep(2.0)  # other systems do not tell
        return sent - metrics.get("osc.messages")
    wait_for(lambda: metrics.get("osc.messages") + int(metrics.snapshot().get("osc.overflow", 0)) == sent)
    return sent - metrics.get("osc.messages")


def say_again(port: int, last: dict[str, float | str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, value in last.items():
            sock.sendto(build(answer("/ll", name, value)), ("127.0.0.1", port))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.usefixtures("nothing_left")
def test_a_flood(amount: Callable[[int, int], int], capsys: pytest.CaptureFixture[str]) -> None:
    figures = flood(amount(20, 3))
    with capsys.disabled():
        print(f"\n{figures}")
