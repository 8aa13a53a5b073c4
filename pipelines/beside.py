"""A network that can't be part of a captured frame, on a thread of its own, at its own rate.

It gets a copy of what a unit sees between two frames, and answers some frames later. Meanwhile the way since that
picture is added up on the device, so that its answer begins where things are by then (pipelines/carry.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.base import HintNet
from engines.cuda_machine import machine_of
from pipelines.aide import Aide
from pipelines.carry import CarriedHint
from pipelines.pace import Look
from pipelines.unitrow import Unit


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
    frame: int


class Beside:
    """One stream's. All but `age`, `wrong` and `settle` belong to the frame's thread."""

    def __init__(self, device: torch.device) -> None:
        self._watches: dict[int, _Watch] = {}
        self._aide: Aide[_Job, Tensor] = Aide(lambda job: job.net(job.picture), "ll-beside", machine_of(device))

    @property
    def wrong(self) -> str:
        """Why the last picture could not be looked at."""
        return self._aide.wrong

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
        answer = self._aide.fetch()
        if answer is None or answer.made is None:
            return
        job = answer.job
        if job.watch in self._watches.values():
            job.hint.renew(answer.made)
            job.watch.answered = job.frame

    def offer(self, hints: Mapping[int, CarriedHint], nets: Mapping[int, HintNet], units: Sequence[Unit]) -> None:
        """After a frame: hand over what a unit saw in it, if the network is free; the unit that waited longest."""
        if not self._aide.free:
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
        self._aide.ask(_Job(watch, hints[number], nets[number], hints[number].show(), watch.frame))

    def forget(self) -> None:
        """What comes next has nothing to do with what was: no answer to it is used."""
        self._watches = {}

    def settle(self, seconds: float = 60.0) -> bool:
        """Wait until what was handed over has been looked at: for tests."""
        return self._aide.settle(seconds)

    def close(self) -> None:
        self._aide.close()
