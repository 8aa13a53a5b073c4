"""Events, streams and graphs of a card that is emulated: see engines.emulated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from engines.emulated_rules import (
    BrokenRule,
    Call,
    Clock,
    Memory,
    NoHost,
    key_of,
    replaced,
)

if TYPE_CHECKING:
    from engines.emulated import EmulatedMachine

HOST, OTHERS = 0, 1


class EmulatedEvent:
    """Implements engines.machine.Event."""

    def __init__(self, machine: EmulatedMachine, clock: Clock, graph: EmulatedGraph | None = None) -> None:
        """`graph`: the recording that it is a place in."""
        self._machine, self.clock, self._at, self.graph = machine, dict(clock), time.perf_counter(), graph

    def wait(self) -> None:
        if self._machine.recording is not None:
            raise BrokenRule("the host waits for the device while a graph is recorded")
        if self.graph is not None:
            raise BrokenRule("the host waits for an event that was recorded, not done")
        self._machine.ledger.learn(HOST, self.clock)

    def since(self, earlier: EmulatedEvent, /) -> float:
        return (self._at - earlier._at) * 1e3


class EmulatedStream:
    """Implements engines.machine.Stream."""

    def __init__(self, machine: EmulatedMachine, number: int, first: bool = False) -> None:
        self._machine, self.number, self.first = machine, number, first

    def mark(self, timed: bool = False) -> EmulatedEvent:
        graph = self._machine.recording
        inside = graph if graph is not None and self.number in graph.streams else None
        return EmulatedEvent(self._machine, self._machine.ledger.now(self.number), inside)

    def follow(self, event: EmulatedEvent, /) -> None:
        graph = self._machine.recording
        if event.graph is not None and event.graph is not graph:
            raise BrokenRule("an event of a recording is waited for outside of it")
        if graph is not None and event.graph is None and self.number in graph.streams:
            raise BrokenRule("a recording waits for work outside of it")
        self._machine.ledger.learn(self.number, event.clock)
        if event.graph is not None:
            if not self.first:
                raise BrokenRule("a recording goes on on a stream that another thread may be given, too")
            event.graph.streams.add(self.number)


class EmulatedGraph:
    """Implements engines.machine.Graph."""

    def __init__(self, machine: EmulatedMachine, pool: Memory) -> None:
        self._machine, self.pool = machine, pool
        self.calls: list[Call] = []
        self._done: list[Call] = []
        """Those that do something when they are played: another look at memory stays what it is."""
        self.streams: set[int] = set()
        """Those that recorded work went to, and those that waited inside."""
        self.reads: set[int] = set()
        self.writes: set[int] = set()

    @contextmanager
    def record(self) -> Iterator[None]:
        machine = self._machine
        if machine.recording is not None:
            raise BrokenRule("a graph is recorded inside another")
        if self.calls:
            raise BrokenRule("a graph is recorded twice")
        main = machine.here().number
        if main == OTHERS:
            raise BrokenRule("a graph can't be recorded on the stream that everybody uses")
        if not machine.here().first:
            raise BrokenRule("a graph is recorded on a stream that another thread may be given, too")
        mine, before = machine.mine, machine.ledger
        mine.recording, self.streams, mine.fork = self, {main}, before.fork()
        try:
            with NoHost():
                yield
            for number in self.streams - {main}:
                if machine.ledger.behind(main, number):
                    raise BrokenRule("a stream that took part in a graph was not waited for at its end")
        finally:
            mine.recording = mine.fork = None  # nothing of it has been done
            before.begin(tensor for call in self.calls for tensor in call.made)
            self._forget()
            self._done = [call for call in self.calls if not call.looks]

    def keep(self, call: Call, reads: list[Tensor], writes: list[Tensor]) -> None:
        """Before a recorded call is done."""
        self.reads.update(key_of(tensor) for tensor in reads)
        self.writes.update(key_of(tensor) for tensor in writes)
        self.calls.append(call)

    def try_out(self, call: Call, writes: list[Tensor]) -> Any:
        """Do it for what it gives, changing no memory but the graph's: others may be at work on it."""
        copies = {id(tensor): tensor.clone() for tensor in writes if key_of(tensor) not in self.pool.owners}
        given = replaced((call.args, call.kwargs), copies)
        meant = {id(copies[id(tensor)]): tensor for tensor in writes if id(tensor) in copies}
        return replaced(call.func(*given[0], **given[1]), meant)

    def own(self, made: list[Tensor]) -> None:
        """Results that are the graph's memory."""
        for tensor in made:
            self.pool.owners[key_of(tensor)] = self
            self.writes.add(key_of(tensor))

    def play(self) -> None:
        machine = self._machine
        if not self._done:
            raise BrokenRule("a graph is played that was not recorded")
        if machine.recording is not None:
            raise BrokenRule("a graph is played while another is recorded")
        machine.played += 1
        machine.ledger.use(machine.here().number, self.reads, self.writes, self)
        self.pool.last = self
        with _disable_current_modes(), torch.inference_mode():
            for call in self._done:
                call.again()

    def _forget(self) -> None:
        """A recording does nothing: what it made is worth nothing yet."""
        with self._machine.silent(), torch.inference_mode():
            for call in self.calls:
                call.spoil(self.pool.owners)
