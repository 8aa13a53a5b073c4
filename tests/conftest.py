"""What all tests share: nothing may be left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support import ports
from support.browser import find_chromium

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that spins takes the core of the process beside us
SLOW = os.environ.get("LIVELATENT_SLOW", "")
"""`short` runs what is marked slow in a short form, `full` as long as it takes; unset leaves it out."""
WITH_OTHERS = {"peer", "soak", "td"}
"""Folders of tests in which other programs and processes take part."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = {}
    if SLOW not in ("short", "full"):
        lacking["slow"] = "slow: set LIVELATENT_SLOW=short or full"
    if SLOW != "full":
        lacking["full"] = "full: set LIVELATENT_SLOW=full"
    if find_chromium() is None:
        lacking["browser"] = "no Chromium here (Debian: apt install chromium)"
    for item in items:
        for mark, reason in lacking.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.path.parent.name in WITH_OTHERS or "browser" in item.keywords:
            # Others may fail where we do not: once more, and the last lines of the run name it.
            item.add_marker(pytest.mark.flaky(reruns=1))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = mixed(items)


def mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """Files that mostly wait for others between files that mostly compute: as they run in two processes, one of each
    leaves the other a core."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    for path in files:
        kinds[path.parent.name in WITH_OTHERS].append(path)
    places = {path: (n + 0.5) / len(paths) for paths in kinds.values() for n, path in enumerate(paths)}
    return [item for path in sorted(files, key=places.__getitem__) for item in files[path]]


def pytest_collection_finish() -> None:
    """What is loaded by now stays, and no later collection of garbage needs to look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def amount() -> Callable[[int, int], int]:
    """How much of something a test does: `amount(full, short)`, all of it only if LIVELATENT_SLOW=full."""
    return lambda full, short: full if SLOW == "full" else short


@pytest.fixture
def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    return ports.free_port()


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's models, keys and tokens."""
    monkeypatch.setenv("LIVELATENT_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True, scope="module")
def _no_thread_stays() -> Iterator[None]:
    """After a file: a stream that is not closed would work on beside all that follow, and be counted by one of them."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 30
    while left := [t.name for t in threading.enumerate() if t not in before and t.name.startswith("ll-")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test: no thread of ours, no shared memory segment, no child process more than before."""
    threads, segments, children = _threads(), _segments(), _children()
    yield
    deadline = time.monotonic() + 30
    # Looked at until nothing is left, and not once more: what another run has just made has no owner for a moment.
    while left := (_threads() - threads) | (_segments() - segments) | (_children() - children):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _threads() -> set[object]:
    return {t.name for t in threading.enumerate() if t.name.startswith("ll-")}


def _segments() -> set[object]:
    """Those that this process and its children wrote, or somebody who is gone; another run beside us has its own."""
    shm = Path("/dev/shm")
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    names = [p for p in shm.iterdir() if p.name.startswith(("ll", "livelatent"))] if shm.is_dir() else []
    return {
        p.name for p in names if (pid := _writer(p)) in ours or not (psutil.pid_exists(pid) or _mapped(p.name, ours))
    }


def _mapped(name: str, ours: set[int]) -> bool:
    """Whether a process that is none of ours has it open: then its writer was another run's."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(entry.name) not in ours and f"/dev/shm/{name}" in (entry / "maps").read_text():
                return True
    return False


def _writer(path: Path) -> int:
    """The process that a ring says it belongs to; 0 for what is none, or not yet."""
    try:
        with path.open("rb") as file:
            return int.from_bytes(file.read(96)[88:96], "little") & 0x7FFFFFFF
    except OSError:
        return 0


def _children() -> set[object]:
    """Worker processes of this process, by id."""
    out = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and b"bridge.worker" in command:
            out.add(int(entry.name))
    return out
