"""The bridge's handle on one worker process: its pipes, its ring, its state."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping

from bridge.channel import (
    Activate,
    Beat,
    Fed,
    Hinted,
    Load,
    Painted,
    Quit,
    Ready,
    Refused,
    Sender,
    Skipped,
    from_worker,
)
from bridge.clock import NS, now_ns
from bridge.errors import WireError, WorkerError
from bridge.frame import Frame, Made
from bridge.lifecycle import Event, State, after
from bridge.ring import RingFrame, RingReader, RingWriter
from bridge.spawn import Process, spawn
from engines.paths import ROOT
from pipelines.params import Params
from pipelines.spec import StreamSpec

log = logging.getLogger("livelatent.worker")

MAX_UNHEARD = 64
"""So many bells may be unanswered before no more are rung: a pipe that nobody reads must never fill up and block us."""


class Child:
    """One worker. Events arrive on its reader thread and are kept under `lock`; `changed` tells the supervisor."""

    def __init__(
        self,
        spec: StreamSpec,
        params: Params,
        ring_in: str,
        *,
        background: bool,
        changed: Callable[[], None],
        rings_own: Mapping[int, str] | None = None,
    ) -> None:
        self.spec = spec
        self.state = State.STARTING
        self.epoch = 0
        self.ready: Ready | None = None
        self.refusal = ""
        self.heard_ns = now_ns()
        self.born_ns = now_ns()
        self.promoted_ns = 0
        self.busy_ms = 0.0
        self.notes: dict[str, float | str] = {}
        self.painted = 0
        self.painted_ns = 0
        self.skipped = ""
        self.on_picture: Callable[[Child, Frame], None] = lambda child, frame: None
        self.on_unseen: Callable[[Child, Painted, Made], None] = lambda child, painted, made: None
        self.on_hint: Callable[[Child, Frame], None] = lambda child, frame: None
        self._ahead: RingFrame | None = None
        """The newest picture, until the message about it comes."""
        self.tail: deque[str] = deque(maxlen=200)
        self._unheard = 0
        self._ended = False
        self._lock = threading.Lock()
        self._changed = changed
        self._ring = RingWriter.create(spec.width * spec.height * 3)
        self._ring_hint = RingWriter.create(spec.width * spec.height * 3)
        self._out, self._hints = RingReader(self._ring.name), RingReader(self._ring_hint.name)
        try:
            self._process = self._spawn()
        except OSError as error:
            self._release()
            raise WorkerError(f"can't start a worker: {error}") from error
        assert self._process.stdin is not None
        self._sender = Sender(self._process.stdin)
        self._threads = [
            threading.Thread(target=self._listen, name=f"ll-worker-{self.pid}", daemon=True),
            threading.Thread(target=self._collect, name=f"ll-stderr-{self.pid}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        load = Load(
            spec=spec,
            params=params,
            ring_in=ring_in,
            ring_out=self._ring.name,
            background=background,
            ring_hint=self._ring_hint.name,
            rings_own=dict(rings_own or {}),
        )
        self._send(load)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _spawn(self) -> Process:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        # A session of its own: Ctrl-C is for the bridge, which then sees its workers out in order.
        return spawn([sys.executable, "-P", "-m", "bridge.worker"], env)

    def move(self, event: Event) -> State:
        """Record an event; returns the state before it."""
        with self._lock:
            before, self.state = self.state, after(self.state, event)
        return before

    def promote(self, epoch: int) -> None:
        """Make it the painter."""
        self.move(Event.PROMOTED)
        self.epoch, self.promoted_ns = epoch, now_ns()
        self.heard_ns = now_ns()
        self._send(Activate(epoch=epoch))

    def feed(self) -> None:
        """Ring the bell: a new frame lies in ring A. Never blocks."""
        if self._unheard < MAX_UNHEARD:
            self._unheard += 1
            self._send(Fed())

    def dismiss(self) -> None:
        """Let it finish its frame and go."""
        self.move(Event.DISMISSED)
        self._send(Quit())

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def dump_stacks(self) -> None:
        """Ask a stalled worker where it is; the answer comes on its stderr, which is logged."""
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGUSR1)

    def gone(self) -> bool:
        """Whether its process is dead. After its pipe has ended that is a matter of moments, so they are waited for."""
        if self._ended and self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def painted_s(self) -> float:
        """For how long it has painted, in seconds."""
        return (self.painted_ns - self.promoted_ns) / NS if self.painted_ns else 0.0

    def unheard_s(self, at_ns: int) -> float:
        """Seconds since its last sign of life."""
        return (at_ns - self.heard_ns) / NS

    def bury(self, deadline_s: float = 2.0) -> None:
        """After its death: join its threads, close its pipes, unlink its ring."""
        try:
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            # A process that a driver holds in the kernel outlives even that; the show does not wait for it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(deadline_s)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(deadline_s)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._release()

    def _release(self) -> None:
        for reader, ring in ((self._out, self._ring), (self._hints, self._ring_hint)):
            reader.close()
            ring.close()
            ring.unlink()

    def _send(self, message: Load | Activate | Fed | Quit) -> None:
        # A dead worker is noticed by its reader thread; there is nothing to add here.
        with contextlib.suppress(WorkerError):
            self._sender.send(message)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        receiver = from_worker(self._process.stdout)
        try:
            while (message := receiver.receive()) is not None:
                self.heard_ns = now_ns()
                self._unheard = 0
                match message:
                    case Painted():
                        self._picture(message)
                    case Hinted():
                        self._hint()
                    case Beat():
                        self.busy_ms, self.notes = message.busy_ms, message.notes
                    case Ready():
                        self.ready = message
                        self.move(Event.READY)
                        self._changed()
                    case Refused():
                        self.refusal = message.reason
                        self.move(Event.REFUSED)
                        self._changed()
                    case Skipped():
                        self.skipped = message.reason
                        self._changed()
                    case _:
                        raise WorkerError(f"a worker sent {type(message).__name__}")
        except (WorkerError, LookupError) as error:
            log.error("worker %d: %s", self.pid, error)
            self.kill()
        self._ended = True
        self._changed()

    def _picture(self, painted: Painted) -> None:
        """The picture that a message is about; or, if a newer one has overtaken it in the ring, what was made of it."""
        try:
            if self._ahead is None or self._ahead.frame.stamps.fed < painted.fed:
                self._ahead = self._out.read()
        except WireError as error:
            log.error("worker %d: %s", self.pid, error)
            return
        if self.state is not State.ACTIVE:
            return
        got, made = self._ahead, Made(self.epoch, self.spec, painted.took)
        if got is None or got.frame.stamps.fed > painted.fed:
            self.on_unseen(self, painted, made)
            return
        self._ahead = None
        if got.epoch == self.epoch:
            self.painted += 1
            self.painted_ns = now_ns()
            self.on_picture(self, dataclasses.replace(got.frame, made=made))

    def _hint(self) -> None:
        try:
            got = self._hints.read()
        except WireError as error:
            log.error("worker %d: hint: %s", self.pid, error)
            return
        if got is not None and self.state is State.ACTIVE and got.epoch == self.epoch:
            self.on_hint(self, got.frame)

    def _collect(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode("utf-8", "backslashreplace").rstrip()[:500]
            self.tail.append(line)
            log.debug("worker %d: %s", self.pid, line)

    def stalled(self, at_ns: int, limit_s: float) -> str:
        """Why an active worker counts as stalled, or nothing. The limit grows with the model's own frame time."""
        frame_s = self.ready.frame_ms / 1000 if self.ready else 0.0
        limit_s = max(limit_s, 10 * frame_s)
        if self.unheard_s(at_ns) > limit_s:
            return f"silent for {self.unheard_s(at_ns):.1f} s"
        busy_s = self.busy_ms / 1000 + self.unheard_s(at_ns)
        if self.busy_ms and busy_s > limit_s:
            return f"on one frame for {busy_s:.1f} s"
        return ""


def see_out(children: list[Child], patience_s: float = 1.5) -> None:
    """Bid them leave, wait for so long at most, and leave nothing of them behind."""
    for child in children:
        if child.state is not State.LEAVING:
            child.dismiss()
    deadline = now_ns() + int(patience_s * NS)
    for child in children:
        while not child.gone() and now_ns() < deadline:
            threading.Event().wait(0.01)
        child.kill()
        child.bury()
