"""Processes started without holding Python's lock: streams, codes, signals, and nothing inherited by accident."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from bridge.spawn import Process, spawn


def python(code: str, **env: str) -> Process:
    return spawn([sys.executable, "-c", code], {**os.environ, **env})


def close(process: Process) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_streams_environment_and_exit_code() -> None:
    code = "import os, sys; print(os.environ['LL']); print(sys.stdin.read()[::-1], file=sys.stderr); sys.exit(7)"
    process = python(code, LL="ünï")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"abc")
    process.stdin.close()
    assert process.stdout.read().decode().strip() == "ünï"
    assert process.stderr.read().strip() == b"cba"
    assert process.wait(60) == 7
    assert process.poll() == 7
    close(process)


def test_kill_wait_and_a_session_of_its_own() -> None:
    process = python("import os, time; print(os.getsid(0) == os.getpid(), flush=True); time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"True"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    process.kill()
    close(process)


def test_many_threads_may_ask_at_once() -> None:
    process = python("pass")
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait(60))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8
    close(process)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_the_child_has_three_files_open() -> None:
    with open(os.devnull) as ours:
        process = python("import os; print(len(os.listdir('/proc/self/fd')) - 1)")
        assert ours
        assert process.stdout is not None
        assert process.stdout.read().strip() == b"3"
    process.wait(60)
    close(process)


def test_what_does_not_exist_is_an_os_error_and_leaks_nothing() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(OSError, match="no-such-program"):
        spawn(["/no-such-program"], {})
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
