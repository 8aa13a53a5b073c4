"""A mode's graphs, made beside the stream: warmed up on memory of its own, then recorded, while another mode's play on.

What a frame is recorded over is the stream's own: knobs, memories, networks. Recording touches none of it. The warm-up
before it, which chooses kernels and makes libraries' memory, does work, so it works on copies.
"""

from __future__ import annotations

import copy
import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engines.base import Nets
from engines.errors import first_line
from engines.machine import Machine
from pipelines.img2img import step
from pipelines.knobs import Knobs
from pipelines.recorded import Recorded, Recorder
from pipelines.state import StreamState


class Job(NamedTuple):
    """A mode to be made ready, as the frame's thread had it."""

    key: tuple[object, ...]
    parts: tuple[object, ...]
    frame: Tensor
    knobs: Knobs
    state: StreamState
    nets: Nets

    def still(self) -> Job:
        """Over the same memory, and what the frame's thread goes on to change of it is not seen here."""
        knobs, state = copy.copy(self.knobs), copy.copy(self.state)
        knobs.units, knobs.image = copy.copy(knobs.units), copy.copy(knobs.image)
        knobs.units.own = dict(knobs.units.own)
        state.hints, state.colours = dict(state.hints), dict(state.colours)
        nets = copy.copy(self.nets)
        object.__setattr__(nets, "controlnets", dict(nets.controlnets))  # frozen, and this copy is nobody else's
        object.__setattr__(nets, "hintnets", dict(nets.hintnets))
        return self._replace(knobs=knobs, state=state, nets=nets)


class Made(NamedTuple):
    """How that went."""

    key: tuple[object, ...]
    recorded: Recorded | None
    wrong: str
    """Why there is none."""


class Rehearsal:
    """One stream's, with a thread of its own, which is started when it is first needed."""

    def __init__(self, machine: Machine, recorder: Recorder) -> None:
        self._machine, self._recorder, self._stream = machine, recorder, machine.stream()
        self._change = threading.Condition()
        self._todo: Job | None = None
        self._made: Made | None = None
        self._busy = self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def doing(self) -> bool:
        return self._todo is not None or self._busy

    def ask(self, job: Job) -> None:
        """Make it ready, if nothing else is being made; the next frame will ask again."""
        with self._change:
            if self.doing or self._made is not None or self._closed:
                return
            self._todo = job.still()
            self._change.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ll-record", daemon=True)
            self._thread.start()

    def fetch(self) -> Made | None:
        """What has become ready, once."""
        with self._change:
            made, self._made = self._made, None
        return made

    def settle(self, seconds: float = 120.0) -> bool:
        """Wait until nothing is being made."""
        with self._change:
            return self._change.wait_for(lambda: not self.doing, seconds)

    def close(self) -> None:
        with self._change:
            self._closed, self._todo = True, None
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=60.0)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                made = Made(job.key, self._make(job), "")
            except Exception as error:  # whatever a card or a library raises: the show goes on without
                made = Made(job.key, None, first_line(error))
            with self._change:
                self._busy, self._made = False, made
                self._change.notify_all()

    def _next(self) -> Job | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._todo is not None)
            job, self._todo = self._todo, None
            self._busy = job is not None
            return job

    @torch.inference_mode()
    def _make(self, job: Job) -> Recorded:
        self._stream.follow(self._machine.others().mark())  # networks may just have been loaded
        with self._machine.rehearse(self._stream):
            frame, knobs, state = twin((job.frame, job.knobs, job.state))
            for part in knobs.foreknown.parts(knobs, job.nets):
                knobs.foreknown.compute(part, knobs, job.nets)
            knobs.foreknown = knobs.foreknown.promised()
            step(frame, knobs, state, job.nets)
        self._stream.mark().wait()
        return Recorded(job.parts, *self._recorder(job.frame, job.knobs, job.state, job.nets))


def twin(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """The same over memory of its own, as far as it is made of tensors, containers and what pipelines/ defines: views
    of one memory stay views of one."""
    memo = {} if memo is None else memo
    if id(value) in memo:
        return memo[id(value)]
    made = value
    if isinstance(value, Tensor):
        made = _tensor(value, memo)
    elif isinstance(value, (tuple, list)):
        parts = [twin(part, memo) for part in value]
        made = type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    elif isinstance(value, dict):
        made = {key: twin(part, memo) for key, part in list(value.items())}
    elif type(value).__module__.startswith("pipelines.") and hasattr(value, "__dict__"):
        made = memo[id(value)] = object.__new__(type(value))
        made.__dict__.update({name: twin(part, memo) for name, part in list(vars(value).items())})
    memo[id(value)] = made
    return made


def _tensor(value: Tensor, memo: dict[int, Any]) -> Tensor:
    storage = value.untyped_storage()
    key = -int(storage._cdata)  # apart from ids of objects
    if key not in memo:
        memo[key] = torch.empty(0, dtype=torch.uint8, device=value.device).set_(storage).clone()
    out = torch.empty(0, dtype=value.dtype, device=value.device)
    whole = memo[key].untyped_storage()
    return out.set_(whole, value.storage_offset(), value.size(), value.stride())
