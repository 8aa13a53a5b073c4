"""A piece of work in a process of its own, at low priority: what may crash, or take minutes, beside a running show.

The order is a line on its stdin, which stays open: when that ends, the errand is called off, or we are gone. What it
reports are lines on stdout; its last word on stderr is why it failed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from engines.errors import ModelError, first_line
from engines.paths import ROOT

PATIENCE_S = 3600.0
GRACE_S = 20.0
"""So long it may take to come to an end by itself."""
NICE = 10
Hear = Callable[[bytes], None]


class Ended(NamedTuple):
    code: int
    """0 when it did what it was sent for."""
    said: str
    """The last line on its stderr."""


def send(module: str, order: bytes, hear: Hear, cancelled: threading.Event, patience: float = PATIENCE_S) -> Ended:
    """Run `python -m module` and wait for its end; `hear` gets each line of its stdout, from this thread. Raises
    ModelError, a sentence, where no process can be started."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path}
    pipe, over = subprocess.PIPE, threading.Event()
    with tempfile.TemporaryFile() as complaint:
        try:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", module], stdin=pipe, stdout=pipe, stderr=complaint, env=env, bufsize=0
            )
        except OSError as error:
            raise ModelError(f"no process could be started: {first_line(error)}") from error
        watch = threading.Thread(target=_watch, args=(child, cancelled, over, patience), name="ll-errand", daemon=True)
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            watch.start()
            with contextlib.suppress(OSError):  # it died before it had read
                child.stdin.write(order + b"\n")
            for line in child.stdout:
                hear(line)
            code = child.wait()
            over.set()
            watch.join()
        complaint.seek(0)
        lines = complaint.read().decode(errors="replace").strip().splitlines()
    return Ended(code, (lines or ["no message"])[-1][:300])


def _watch(child: subprocess.Popen[bytes], cancelled: threading.Event, over: threading.Event, patience: float) -> None:
    """Call it off when that is wanted or it takes too long, and end it if it does not listen."""
    waited = 0.0
    while not (over.wait(0.1) or cancelled.is_set()) and waited < patience:
        waited += 0.1
    if not over.is_set():
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        if not over.wait(GRACE_S):
            child.kill()


class Task(NamedTuple):
    """The errand's side of it."""

    text: bytes
    cancelled: threading.Event
    """Set when it is called off; the process ends by itself if it goes on for long."""
    tell: Hear
    """Report a line; those who listen no more don't matter."""


@contextlib.contextmanager
def accept() -> Iterator[Task]:
    """In the process that was sent: its order. Whatever libraries print is no report."""
    stdout = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICE)
    cancelled = threading.Event()

    def tell(line: bytes) -> None:
        with contextlib.suppress(OSError):
            stdout.write(line + b"\n")

    with os.fdopen(os.dup(0), "rb", buffering=0) as stdin:
        text = stdin.readline()
    threading.Thread(target=_until_called_off, args=(cancelled,), daemon=True).start()
    yield Task(text, cancelled, tell)
    stdout.close()


def _until_called_off(cancelled: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock, held by a thread, would abort an interpreter that ends
        pass
    cancelled.set()
    threading.Event().wait(GRACE_S / 2)
    os._exit(1)
