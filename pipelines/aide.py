"""A thread beside the stream that does one thing at a time, so that no frame waits for what is slow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch

from engines.errors import first_line
from engines.machine import Event, Machine, Stream

J = TypeVar("J")
R = TypeVar("R")


class Answer(NamedTuple, Generic[J, R]):
    """How a job went."""

    job: J
    made: R | None
    wrong: str
    """Why there is nothing, a sentence, or empty."""


class Aide(Generic[J, R]):
    """With a place for one job and one for its answer. `ask` and `fetch` belong to the frame's thread. The thread is
    started when it is first needed."""

    def __init__(self, work: Callable[[J], R], name: str, machine: Machine | None = None) -> None:
        """`name`: the thread's. `machine`: `work` runs on a stream of its own there, after all that was queued where
        the job was handed over; None where there are no streams, or `work` minds them itself."""
        self.work, self._name, self._machine = work, name, machine
        self._change = threading.Condition()
        self._todo: J | None = None
        self._answer: Answer[J, R] | None = None
        self._asked_at: Event | None = None
        self._stream: Stream | None = None
        self._busy = self._closed = False
        self.thread: threading.Thread | None = None
        self.wrong = ""
        """Why the last job came to nothing; empty if it did not. From any thread."""

    @property
    def busy(self) -> bool:
        """Whether a job is waiting or being done. From any thread."""
        with self._change:
            return self._todo is not None or self._busy

    @property
    def free(self) -> bool:
        """Whether `ask` may be called: nothing is on, and no answer waits to be fetched."""
        with self._change:
            return not (self._closed or self._busy) and self._todo is None and self._answer is None

    def ask(self, job: J) -> None:
        """Have this done. Returns at once; does nothing where it is not free."""
        with self._change:
            if self._closed or self._busy or self._todo is not None or self._answer is not None:
                return
            if self._machine is not None:
                self._asked_at = self._machine.here().mark()
            self._todo = job
            self._change.notify_all()
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self.thread.start()

    def fetch(self) -> Answer[J, R] | None:
        """What has been done, once."""
        with self._change:
            answer, self._answer = self._answer, None
            return answer

    def settle(self, seconds: float = 120.0) -> bool:
        """Wait until nothing is on: before what must not run beside it, for tests and offline work."""
        with self._change:
            return self._change.wait_for(lambda: self._todo is None and not self._busy, seconds)

    def close(self, seconds: float = 10.0) -> None:
        """Let it end what it is at, for so long at most."""
        with self._change:
            self._closed, self._todo = True, None
            self._change.notify_all()
        if self.thread is not None:
            self.thread.join(seconds)

    def _run(self) -> None:
        with torch.inference_mode():
            while self._serve():
                pass

    def _serve(self) -> bool:
        """One job; no reference to it is left while the next is waited for. False once it is closed."""
        with self._change:
            self._change.wait_for(lambda: self._closed or self._todo is not None)
            job, self._todo = self._todo, None
            if job is None:
                return False
            self._busy = True
        answer = self._do(job)
        with self._change:
            self._busy, self._answer, self.wrong = False, answer, answer.wrong
            self._change.notify_all()
        return True

    def _do(self, job: J) -> Answer[J, R]:
        try:
            with self._aside():
                return Answer(job, self.work(job), "")
        except Exception as error:  # whatever a network, a library or a card raises: the show goes on without
            return Answer(job, None, first_line(error))

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On a stream of its own, so that no frame queues behind it; done with when it ends."""
        if self._machine is None:
            yield
            return
        self._stream = self._stream or self._machine.stream()
        self._stream.follow(self._asked_at)
        with self._machine.on(self._stream):
            yield
        self._stream.mark().wait()
