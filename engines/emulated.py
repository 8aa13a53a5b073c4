"""engines.machine on a processor, with a card's rules: what a card forbids, or does otherwise, fails here by name.

Work is done at once, so that pictures are right; what is checked is whether a card, which does it when it likes, would
have had to do the same. Every storage remembers who read and wrote it when, and every stream what it has waited for
(vector clocks: Mattern 1989; races as in Flanagan and Freund 2009, "FastTrack").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from engines.emulated_rules import (
    BrokenRule,
    Call,
    Clock,
    Ledger,
    Memory,
    NoHost,
    accesses,
    key_of,
    refuse,
    replaced,
    waits,
)
from engines.hostmemory import host_tensor, mapped

HOST, OTHERS, PAGE = 0, 1, 4096


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


class Mine(threading.local):
    """What one thread is doing on the machine."""

    recording: EmulatedGraph | None = None
    fork: Ledger | None = None
    """What its recording would do, of which nothing is done."""
    quiet = False
    rehearsing = False

    def __init__(self, at: EmulatedStream) -> None:
        self.at = [at]


class EmulatedMachine(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Implements engines.machine.Machine."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ledger = Ledger()
        self.played = 0
        """Graphs played."""
        self.graphs = 0
        """Graphs made."""
        self.made = 0
        """Tensors that were made on the device outside of graphs: each is a call of the allocator."""
        self.syncs = 0
        """Times the host read something from the device outside of graphs."""
        self.pinned: dict[int, Tensor] = {}
        """Memory of others that is registered, by address."""
        self.lockable = 1 << 40
        """Bytes that the system lets be registered at once."""
        self._gone: set[int] = set()
        self._numbers = OTHERS
        self._everybody = EmulatedStream(self, OTHERS)
        self.mine = Mine(self._everybody)

    @property
    def recording(self) -> EmulatedGraph | None:
        """What this thread records."""
        return self.mine.recording

    @property
    def ledger(self) -> Ledger:
        return self.mine.fork or self._ledger

    def stream(self, first: bool = False) -> EmulatedStream:
        self._numbers += 1
        return EmulatedStream(self, self._numbers, first)

    def others(self) -> EmulatedStream:
        return self._everybody

    def here(self) -> EmulatedStream:
        return self.mine.at[-1]

    @contextmanager
    def on(self, stream: EmulatedStream, /) -> Iterator[None]:
        with ExitStack() as stack:
            at = self.mine.at
            if len(at) == 1:
                stack.enter_context(self)
            at.append(stream)
            stack.callback(at.pop)
            yield

    @contextmanager
    def rehearse(self, stream: EmulatedStream, /) -> Iterator[None]:
        with self.on(stream):
            self.mine.rehearsing = True
            try:
                yield
            finally:
                self.mine.rehearsing = False

    def pool(self) -> Memory:
        return Memory()

    def graph(self, pool: Memory, /) -> EmulatedGraph:
        self.graphs += 1
        return EmulatedGraph(self, pool)

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if self.recording is not None:
            raise BrokenRule("memory is pinned while a graph is recorded")
        with self.silent():
            made = torch.zeros(shape, dtype=dtype)
        self.ledger.begin([made])
        return made

    def pin(self, at: int, size: int) -> Tensor:
        if self.recording is not None:
            raise BrokenRule("memory is registered while a graph is recorded")
        if at % PAGE or size % PAGE or not mapped(at, size):
            raise BrokenRule("registered memory is whole pages, and all of it mapped")
        if any(at < begin + tensor.numel() and begin < at + size for begin, tensor in self.pinned.items()):
            raise BrokenRule("memory is registered twice")
        if sum(tensor.numel() for tensor in self.pinned.values()) + size > self.lockable:
            raise RuntimeError("no more memory may be locked")
        with self.silent():
            made = host_tensor(at, size)
        self.ledger.begin([made])
        self.pinned[at] = made
        return made

    def unpin(self, tensor: Tensor, /) -> None:
        if self.pinned.pop(tensor.data_ptr(), None) is not tensor:
            raise BrokenRule("memory is let go of that is not registered")
        if not mapped(tensor.data_ptr(), tensor.numel()):
            raise BrokenRule("memory was unmapped while it was registered")
        self.claim(tensor)
        self._gone.add(key_of(tensor))

    def claim(self, tensor: Tensor, /) -> None:
        if self.recording is not None:
            raise BrokenRule("the host looks at its memory while a graph is recorded")
        self.ledger.use(HOST, (), {key_of(tensor)})

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Inside, nothing is watched: what a graph does when it is played was checked as a whole."""
        before, self.mine.quiet = self.mine.quiet, True
        try:
            yield
        finally:
            self.mine.quiet = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.mine.quiet:
            return func(*args, **kwargs)
        if self.mine.rehearsing:
            if any(self.ledger.knows(key_of(tensor)) for tensor in accesses(func, args, kwargs)[1]):
                raise BrokenRule("a rehearsal writes to memory that is not its own")
            return func(*args, **kwargs)
        graph, stream = self.recording, self.here().number
        why = refuse(func, args, kwargs)
        if why and graph is not None:
            raise BrokenRule(why)
        if graph is not None and stream not in graph.streams:
            raise BrokenRule(
                "work on a stream that takes no part in the recording: done now, in memory out of its pool"
            )
        self.syncs += waits(func)
        reads, writes = accesses(func, args, kwargs)
        if self._gone and any(key_of(tensor) in self._gone for tensor in (*reads, *writes)):
            raise BrokenRule("the device works on memory that was let go of")
        call = Call(func, args, kwargs)
        if graph is not None:
            with self.silent():
                graph.keep(call, reads, writes)
                out = graph.try_out(call, writes)
        else:
            out = func(*args, **kwargs)
        made = call.took(out)
        self.ledger.begin(made)
        if graph is not None:
            graph.own(made)
        else:
            self.made += len(made)
        if not call.looks:
            self.ledger.use(stream, map(key_of, reads), {key_of(t) for t in (*writes, *made)}, graph, graph is not None)
        return out
