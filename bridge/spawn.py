"""Start a process without stopping this one.

`subprocess` holds Python's lock from fork to exec, and on a busy machine that has been measured at 40 to 85 ms: long
enough for every sink to miss its repeats. `posix_spawn` called through ctypes lets the other threads run meanwhile.
Windows' CreateProcess does so anyway.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Protocol

_FLAGS = {"linux": 0x80, "darwin": 0x400 | 0x4000}
"""POSIX_SPAWN_SETSID of glibc and of macOS; there POSIX_SPAWN_CLOEXEC_DEFAULT too, so that nothing is inherited."""
_CLOSE_FROM = "posix_spawn_file_actions_addclosefrom_np"
_POLL_S = 0.002


class Process(Protocol):
    """What is used of a process: a part of subprocess.Popen's surface."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...


def spawn(command: Sequence[str], env: Mapping[str, str]) -> Process:
    """Run `command` in a session of its own, with pipes on all three standard streams. Raises OSError."""
    # Without a way to close what libraries have left open for children (older glibc, musl), subprocess is the safe one.
    if sys.platform == "darwin" or (sys.platform == "linux" and hasattr(ctypes.CDLL(None), _CLOSE_FROM)):
        return _Spawned(command, env)
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        start_new_session=sys.platform != "win32",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


class _Spawned:
    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        ours, theirs = _pipes()
        try:
            self.pid = _posix_spawn(command, env, theirs)
        except OSError:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.stdin: IO[bytes] | None = os.fdopen(ours[0], "wb", buffering=0)
        self.stdout: IO[bytes] | None = os.fdopen(ours[1], "rb")
        self.stderr: IO[bytes] | None = os.fdopen(ours[2], "rb")
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                self._reap()
            return self.returncode

    def _reap(self) -> None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            # Somebody else in this program reaped it: that it is gone is all that can be said.
            pid, status = self.pid, 0
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            time.sleep(_POLL_S)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(our ends, their ends) of stdin, stdout, stderr; none is inherited by anyone by accident."""
    stdin_r, stdin_w = os.pipe()
    stdout_r, stdout_w = os.pipe()
    stderr_r, stderr_w = os.pipe()
    return (stdin_w, stdout_r, stderr_r), (stdin_r, stdout_w, stderr_w)


def _posix_spawn(command: Sequence[str], env: Mapping[str, str], streams: Sequence[int]) -> int:
    libc = ctypes.CDLL(None)
    # Opaque structures: glibc's take 80 and 336 bytes, macOS's are one pointer each.
    actions, attributes = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1024)
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawnattr_init(attributes)
    try:
        libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_FLAGS[sys.platform]))
        for target, fd in enumerate(streams):
            libc.posix_spawn_file_actions_adddup2(actions, fd, target)
        if sys.platform == "linux":
            getattr(libc, _CLOSE_FROM)(actions, 3)
        pid = ctypes.c_int()
        path = os.fsencode(command[0])
        error = libc.posix_spawn(
            ctypes.byref(pid),
            path,
            actions,
            attributes,
            _strings(command),
            _strings(f"{k}={v}" for k, v in env.items()),
        )
    finally:
        libc.posix_spawn_file_actions_destroy(actions)
        libc.posix_spawnattr_destroy(attributes)
    if error:
        raise OSError(error, os.strerror(error), command[0])
    return pid.value


def _strings(words: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [os.fsencode(word) for word in words]
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)
