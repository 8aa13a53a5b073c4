"""A mode's graphs, made beside the stream: warmed up on memory of its own, then recorded, while another mode's play on.

What a frame is recorded over is the stream's own: knobs, memories, networks. Recording touches none of it. The warm-up
before it, which chooses kernels and makes libraries' memory, does work, so it works on copies.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engines.base import Nets
from engines.machine import Machine
from pipelines.aide import Aide, Answer
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


class Rehearsal:
    """One stream's."""

    def __init__(self, machine: Machine, recorder: Recorder) -> None:
        self._machine, self._recorder, self._stream = machine, recorder, machine.stream()
        self.aide: Aide[Job, Recorded] = Aide(self._make, "ll-record")

    @property
    def doing(self) -> bool:
        return self.aide.busy

    def ask(self, job: Job) -> None:
        """Make it ready, if nothing else is being made; the next frame will ask again."""
        if self.aide.free:
            self.aide.ask(job.still())

    def fetch(self) -> Answer[Job, Recorded] | None:
        """What has become ready, once."""
        return self.aide.fetch()

    def settle(self, seconds: float = 120.0) -> bool:
        """Wait until nothing is being made."""
        return self.aide.settle(seconds)

    def close(self) -> None:
        self.aide.close(60.0)

    def _make(self, job: Job) -> Recorded:
        self._stream.follow(self._machine.others().mark())  # networks may just have been loaded
        with self._machine.rehearse(self._stream):
            frame, knobs, state = twin((job.frame, job.knobs, job.state))
            for part in knobs.foreknown.parts(knobs, job.nets):
                knobs.foreknown.compute(part, knobs, job.nets)
            step(frame, knobs.recorded(), state, job.nets)
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
