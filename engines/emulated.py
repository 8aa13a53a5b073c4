"""engines.machine on a processor, with a card's rules: what a card forbids, or does otherwise, fails here by name.

Work is done at once, so that pictures are right; what is checked is whether a card, which does it when it likes, would
have had to do the same. Every storage remembers who read and wrote it when, and every stream what it has waited for
(vector clocks: Mattern 1989; races as in Flanagan and Freund 2009, "FastTrack").
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engines.emulated_graph import HOST, OTHERS, EmulatedGraph, EmulatedStream
from engines.emulated_rules import (
    BrokenRule,
    Call,
    Ledger,
    Memory,
    accesses,
    key_of,
    refuse,
    waits,
)
from engines.hostmemory import host_tensor, mapped

PAGE = 4096


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
