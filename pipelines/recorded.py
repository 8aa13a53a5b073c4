"""One mode's frame as graphs: each stage recorded once, on its own stream, and what is handed on copied in between.

The copies let the stage before begin with the next frame while this one is still at work on what it was handed.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor

from engines.base import Nets
from engines.machine import Event, Graph, Machine
from pipelines.foreknown import Part
from pipelines.img2img import step
from pipelines.knobs import Knobs
from pipelines.state import StreamState
from pipelines.still import still


class Stage:
    """What is played on one stream."""

    def __init__(self, take: Graph | None, work: Graph) -> None:
        self.take = take
        """Copies what the stage before hands on, which is free then; nothing for the first."""
        self.work = work


class Recorded(NamedTuple):
    """A mode's graphs, and all that they use that could be replaced: while it is held, no address comes twice."""

    parts: tuple[object, ...]
    stages: list[Stage]
    picture: Tensor
    numbers: Tensor
    ahead: dict[Part, Graph]
    """What is played first where what it computes is not up to date (pipelines.foreknown)."""


class Recorder:
    """Records frames, on streams of its own. Its memory is shared by all modes: those are never played beside each
    other. One thread at a time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        streams = self._streams = [machine.stream(first=True) for _ in range(3)]
        self._pools = [machine.pool() for _ in streams]
        self._copies = [machine.pool() for _ in streams]
        self._ahead = machine.pool()
        self._kept: dict[tuple[object, ...], Tensor] = {}
        """What stages are handed, by stage, place and kind."""

    def __call__(
        self, frame: Tensor, knobs: Knobs, state: StreamState, nets: Nets
    ) -> tuple[list[Stage], Tensor, Tensor, dict[Part, Graph]]:
        """The stages of a frame in `knobs.mode`, its picture, and its numbers (see StreamState.numbers), both written
        when the last stage is played; and what has to be played before. Raises RuntimeError for what can't be
        recorded."""
        stages: list[Stage] = []
        machine, recording = self._machine, ExitStack()

        def begin(take: Graph | None) -> None:
            work = machine.graph(self._pools[len(stages)])
            recording.enter_context(machine.on(self._streams[len(stages)]))
            recording.enter_context(work.record())
            stages.append(Stage(take, work))

        def hand(*tensors: Tensor) -> list[Tensor]:
            recording.close()
            stage = len(stages)
            take = machine.graph(self._copies[stage])
            with machine.on(self._streams[stage]):
                self._streams[stage].follow(self._streams[stage - 1].mark())
                kept = [self._keep(stage, place, tensor) for place, tensor in enumerate(tensors)]
                with take.record():
                    for mine, given in zip(kept, tensors, strict=True):
                        mine.copy_(given)
            begin(take)
            return kept

        try:
            begin(None)
            memory = still(state)
            picture = step(frame, still(knobs.recorded()), memory, nets, hand)
            numbers = memory.numbers()
        except BaseException:
            recording.__exit__(*sys.exc_info())
            if nets.aside is not None:
                nets.aside.drop()
            raise
        recording.close()
        return stages, picture, numbers, self._foreknown(knobs, nets)

    def marks(self) -> list[Event]:
        """After these, what was recorded may be played on any stream. Not while something is recorded."""
        return [stream.mark() for stream in self._streams]

    def _foreknown(self, knobs: Knobs, nets: Nets) -> dict[Part, Graph]:
        """What networks make of steps and prompts alone."""
        graphs: dict[Part, Graph] = {}
        for part in knobs.foreknown.parts(knobs, nets):
            graphs[part] = self._machine.graph(self._ahead)
            with self._machine.on(self._streams[1]), graphs[part].record():
                knobs.foreknown.compute(part, knobs, nets)
        return graphs

    def _keep(self, stage: int, place: int, tensor: Tensor) -> Tensor:
        key = stage, place, tuple(tensor.shape), tensor.stride(), tensor.dtype
        if key not in self._kept:
            self._kept[key] = torch.zeros_like(tensor)  # while it is recorded, what reads it may mind noise
        return self._kept[key]
