"""A network that can't be part of a captured frame, on a thread of its own, at its own rate.

It gets a copy of what a unit sees between two frames, and answers some frames later. Meanwhile the way since that
picture is added up on the device, so that its answer begins where things are by then (pipelines/carry.py).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engines.base import HintNet
from engines.errors import first_line
from pipelines.carry import CarriedHint
from pipelines.pace import Look
from pipelines.params import Unit


@dataclass(eq=False)
class _Watch:
    """One unit's, for as long as it looks at the same thing from frame to frame."""

    what: object
    frame: int = 0
    asked: int | None = None
    """The frame that was handed over last."""
    answered: int | None = None
    """The frame that the present answer is to."""

    @property
    def waited(self) -> float:
        """Frames since one was handed over."""
        return math.inf if self.asked is None else self.frame - self.asked


@dataclass(eq=False)
class _Job:
    watch: _Watch
    hint: CarriedHint
    net: HintNet
    picture: Tensor
    ready: Any
    """On CUDA, the event after which `picture` is what it should be."""
    frame: int = 0
    answer: Tensor | None = field(default=None)


class Beside:
    """One stream's. All but `age`, `wrong` and `settle` belong to the frame's thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._watches: dict[int, _Watch] = {}
        self._change = threading.Condition()
        self._todo: _Job | None = None
        self._done: _Job | None = None
        self._busy = self._closed = False
        self._thread: threading.Thread | None = None
        self.wrong = ""
        """Why the last picture could not be looked at."""

    @property
    def age(self) -> int:
        """How many frames ago the oldest hint in use was seen."""
        ages = [watch.frame - watch.answered for watch in self._watches.values() if watch.answered is not None]
        return max(ages, default=0)

    def looks(self, watched: Mapping[int, object]) -> dict[int, Look]:
        """What each unit that waits for such a network does in this frame. `watched` as for `Pace`."""
        watches: dict[int, _Watch] = {}
        out: dict[int, Look] = {}
        for number, what in watched.items():
            watch = self._watches.get(number)
            if watch is None or watch.what != what:
                watches[number], out[number] = _Watch(what), "watch"
                continue
            watch.frame += 1
            watches[number] = watch
            out[number] = "follow" if watch.answered is None else "carry"
        self._watches = watches  # as a whole: telemetry may be reading the old one
        return out

    def collect(self) -> None:
        """Before a frame: take over an answer that has come."""
        with self._change:
            job, self._done = self._done, None
        if job is not None and job.answer is not None and job.watch in self._watches.values():
            job.hint.renew(job.answer)
            job.watch.answered = job.frame

    def offer(self, hints: Mapping[int, CarriedHint], nets: Mapping[int, HintNet], units: Sequence[Unit]) -> None:
        """After a frame: hand over what a unit saw in it, if the network is free; the unit that waited longest."""
        with self._change:
            if self._busy or self._todo is not None or self._done is not None:
                return
        due = {
            number: watch
            for number, watch in self._watches.items()
            if number in hints and watch.waited >= units[number - 1].every
        }
        if not due:
            return
        number = max(due, key=lambda n: due[n].waited)
        watch = due[number]
        watch.asked = watch.frame
        job = _Job(watch, hints[number], nets[number], hints[number].show(), self._mark(), watch.frame)
        with self._change:
            self._todo = job
            self._change.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ll-beside", daemon=True)
            self._thread.start()

    def forget(self) -> None:
        """What comes next has nothing to do with what was: no answer to it is used."""
        self._watches = {}

    def settle(self, seconds: float = 60.0) -> bool:
        """Wait until what was handed over has been looked at: for tests."""
        with self._change:
            return self._change.wait_for(lambda: self._todo is None and not self._busy, seconds)

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.answer, self.wrong = self._look(job), ""
            except Exception as error:  # whatever a network's runtime raises, the show goes on without its hint
                self.wrong = first_line(error)
            with self._change:
                self._busy = False
                self._done = job
                self._change.notify_all()

    def _next(self) -> _Job | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._todo is not None)
            job, self._todo = self._todo, None
            self._busy = job is not None
            return None if self._closed else job

    @torch.inference_mode()
    def _look(self, job: _Job) -> Tensor:
        if job.ready is None:
            return job.net(job.picture)
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            stream.wait_event(job.ready)
            job.picture.record_stream(stream)
            answer = job.net(job.picture)
            stream.synchronize()
        return answer
