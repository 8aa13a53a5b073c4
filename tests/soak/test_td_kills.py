"""Either side of the way to TouchDesigner is killed, fifty times: pictures come back, none is black, nothing stays."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.fake_gpu import Machine
from support.ports import free_port
from td.test_cuda import cycles, lent

from td.component import BLACK, Stage, command, ready

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="looks at /dev/shm and at processes"),
]
CHILD = Path(__file__).parents[1] / "peer" / "td_child.py"

Amount = Callable[[int, int], int]
Held = tuple[int, int, int]
SHM = Path("/dev/shm")


def held(pid: int, dead: frozenset[int] | set[int] = frozenset()) -> Held:
    """Threads and files of a process; segments under names of this test, and rings that the dead wrote."""
    process = psutil.Process(pid)
    left = [path for path in SHM.glob("ll_*") if writer(path) in dead]
    return process.num_threads(), process.num_fds(), len(list(SHM.glob(f"lltd-?{os.getpid()}-*"))) + len(left)


def writer(path: Path) -> int:
    """The process that a ring says it belongs to."""
    with suppress(OSError), path.open("rb") as file:
        return int.from_bytes(file.read(96)[88:96], "little")
    return 0


def family(pid: int) -> set[int]:
    return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}


def report(what: str, times: list[float], before: Held, after: Held) -> None:
    times = sorted(times)
    more = ", ".join(
        f"{b - a:+} {name}" for a, b, name in zip(before, after, ("threads", "files", "segments"), strict=True)
    )
    print(f"\n{what}, {len(times)} times: median {times[len(times) // 2]:.2f} s, slowest {times[-1]:.2f} s; {more}")


def test_the_bridge_is_killed(tmp_path: Path, amount: Amount) -> None:
    """Killed, seen to be gone, started again at once. Counted from its first word to its first picture, and in all."""
    stage = ready(tmp_path)
    found: list[float] = []
    whole: list[float] = []
    try:
        stage.comp.par.Start.pulse()
        stage.until(lambda: stage.ext.received > 3, 60)
        base: Held | None = None
        dead: set[int] = set()
        for _ in range(amount(50, 2)):
            killed, count = stage.ext.bridge.pid, stage.ext.received
            dead |= family(killed)
            began = time.monotonic()
            os.kill(killed, signal.SIGKILL)
            stage.until(lambda: bright(stage) and stage.ext.bridge.state == "failed", 60)
            stage.comp.par.Start.pulse()
            stage.until(lambda: bright(stage) and stage.ext.sync.live, 60)
            heard = time.monotonic()
            stage.until(lambda n=count: bright(stage) and stage.ext.received > n + 1, 60)
            found.append(time.monotonic() - heard)
            whole.append(time.monotonic() - began)
            gc.collect()
            now = held(os.getpid(), dead)
            base = base or now
        report("bridge answers, first picture", found, base, now)
        report("bridge killed, first picture", whole, base, now)
        assert now[0] <= base[0]
        assert now[1] <= base[1] + 2
        assert now[2] <= base[2]
        assert max(found) < amount(2, 30)
        stage.ext.Stop()
        stage.until(lambda: bright(stage) and stage.ext.bridge.state == "off", 60)
    finally:
        stage.close()


def bright(stage: Stage) -> bool:
    """Every frame of it."""
    assert stage.out._seen()[..., :3].max() > BLACK, "black"
    return True


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, object]]]:
    """A bridge that no TouchDesigner started, and what a component has to know of it."""
    tag = f"{os.getpid()}-{free_port()}"
    pars: dict[str, object] = {"Inname": f"lltd-i{tag}", "Outname": f"lltd-o{tag}"}
    pars |= {"Oscport": free_port(), "Listenport": free_port()}
    words = ["--source", f"shm?name={pars['Inname']}", "--sink", f"shm?name={pars['Outname']}", "--engine", "fake"]
    words += ["--no-web", "--with-stdin", "--osc-port", str(pars["Oscport"])]
    child = subprocess.Popen(
        [command(tmp_path), "run", *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield child, pars
    assert child.stdin is not None
    child.stdin.close()
    try:
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
        for name in ("Inname", "Outname"):
            (Path("/dev/shm") / str(pars[name])).unlink(missing_ok=True)


def test_touchdesigner_is_killed(
    tmp_path: Path, amount: Amount, bridge: tuple[subprocess.Popen[bytes], dict[str, object]]
) -> None:
    """Killed at any moment, in the midst of writing too, and opened again while the bridge goes on."""
    server, pars = bridge
    rng, times = random.Random(5), []
    base: Held | None = None
    for number in range(amount(50, 2) + 1):
        child = subprocess.Popen([sys.executable, CHILD, tmp_path, json.dumps(pars)], stdout=subprocess.PIPE, text=True)
        said: list[str] = []
        try:
            assert child.stdout is not None
            ear = threading.Thread(target=lambda pipe=child.stdout, out=said: out.extend(pipe), name="ll-ear")
            ear.start()
            deadline = time.monotonic() + 60
            while len(said) < 3:  # what the builder prints, when it is built, the first picture
                assert child.poll() is None
                assert time.monotonic() < deadline, said
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.3))
        finally:
            child.kill()
            child.wait()
            ear.join()
            child.stdout.close()
        assert "black\n" not in said
        built, picture = (float(line.split()[1]) for line in said[1:3])
        now = held(server.pid)
        if number:  # the first one waits for the bridge to start
            times.append(picture - built)
        else:
            base = now
    assert base is not None
    report("component built, first picture", times, base, now)
    assert server.poll() is None
    assert now[0] <= base[0]
    assert now[1] <= base[1] + 2
    assert now[2] <= base[2]
    assert max(times) < amount(2, 30)


def test_either_side_goes_while_pictures_stay_on_a_card(
    tmp_path: Path, amount: Amount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a stand-in for NVIDIA's driver: memory and events of the card are counted too."""
    machine = Machine(tmp_path / "machine")
    with lent(machine, monkeypatch) as driver:
        cycles(tmp_path, machine, driver, amount(10, 2))
    assert machine.misuse == []
