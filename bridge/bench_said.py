"""What `livelatent bench gpu` and the process that measures its rows say to each other, lines of JSON. No torch."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress

import msgspec

from engines.paths import ROOT


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row to measure."""

    name: str
    frames: int
    seconds: float = 0.0
    """What a build may take."""
    streamdiffusion: str = ""
    """The folder of a copy of it."""


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line tells facts, or what is wrong altogether; each other line is about one row."""

    name: str = ""
    row: dict[str, float] = {}
    wrong: str = ""
    left_out: str = ""
    facts: dict[str, str] = {}


class Gone(Exception):
    """The process ended, or had to be ended: a sentence."""


class Measurer:
    """The process. Its stderr is ours."""

    def __init__(self, smoke: bool, words: tuple[str, ...] = ("-m", "bridge.bench_rows")) -> None:
        """`words`: what Python runs."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-P", *words, *(["--smoke"] if smoke else [])]
        pipe, env = subprocess.PIPE, {**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"}
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, bufsize=0)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        """Never more than one for each order. The last is empty."""
        self._thread = threading.Thread(target=self._read, name="ll-rows", daemon=True)
        self._thread.start()

    def hear(self, seconds: float) -> Said:
        """Its next line. Raises Gone where none comes in time."""
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            self.close(0.0)
            raise Gone(f"ended after {max(0.0, seconds):.0f} s, as nothing came of it") from None
        if not line:
            code = self._child.wait()
            self.close(0.0)
            raise Gone(f"the process that measured it ended ({f'signal {-code}' if code < 0 else f'code {code}'})")
        return msgspec.json.decode(line, type=Said)

    def ask(self, order: Order, seconds: float) -> Said:
        """One row. Raises Gone."""
        assert self._child.stdin is not None
        with suppress(OSError):  # it is gone: the next line says so
            self._child.stdin.write(msgspec.json.encode(order) + b"\n")
        return self.hear(seconds)

    def close(self, seconds: float = 15.0) -> None:
        """Let it end, for so long at most."""
        until = time.monotonic() + seconds
        assert self._child.stdin is not None
        with suppress(OSError):
            self._child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(max(0.0, until - time.monotonic()))
        self._child.kill()
        self._child.wait()
        self._thread.join(5.0)
        if self._child.stdout is not None:
            self._child.stdout.close()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with suppress(OSError, ValueError):
            for line in self._child.stdout:
                self._lines.put(line)
        self._lines.put(b"")
