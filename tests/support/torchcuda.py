"""What torch.cuda lets engines.cuda_machine do, and refuses, by torch's own source (CUDAGraph.cpp, CUDAStream.cpp,
CUDACachingAllocator.cpp of 2.11 to 2.13): strict, and computes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

STREAMS = 32
"""Of each priority, given by turns."""


class TorchCuda:
    """One process's."""

    def __init__(self) -> None:
        self.pools: dict[int, int] = {}
        """Graphs in each, by its name; torch never forgets one that had any."""
        self.underway: set[int] = set()
        """Pools that the allocator takes to be recorded in."""
        self.invalid = False
        """Whether the driver finds fault with what is being recorded."""
        self.registered: dict[int, int] = {}
        self.default = self.here = Stream(self, -1, 0)
        self._names, self._given = itertools.count(1), {0: itertools.count(), -1: itertools.count()}

    def patch(self, monkeypatch: Any) -> None:
        """Put it in torch's place."""
        import torch

        own = {
            "CUDAGraph": lambda: Graph(self),
            "Stream": self.stream_of,
            "Event": lambda **options: Event(**options),
            "current_stream": lambda device=None: self.here,
            "default_stream": lambda device=None: self.default,
            "stream": self.on,
            "synchronize": self.synchronize,
            "graph_pool_handle": lambda: next(self._names),
            "current_device": lambda: 0,
            "cudart": lambda: SimpleNamespace(cudaHostRegister=self.register, cudaHostUnregister=self.registered.pop),
        }
        for name, value in own.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", self.release, raising=False)

    def stream_of(self, device: Any = None, priority: int = 0) -> Stream:
        return Stream(self, next(self._given[priority]) % STREAMS, priority)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.here = self.here, stream
        yield
        self.here = before

    def synchronize(self, device: Any = None) -> None:
        if self.underway:
            raise RuntimeError("operation not permitted when stream is capturing")

    def begin(self, name: int) -> None:
        if self.pools.get(name) == 0:
            raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED")
        if name in self.underway:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.pools[name] = self.pools.get(name, 0) + 1
        self.underway.add(name)

    def end(self, device: int, name: int) -> None:
        if name not in self.underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.underway.remove(name)

    def release(self, device: int, name: int) -> None:
        assert self.pools[name] > 0, "released more often than it was taken"
        self.pools[name] -= 1

    def register(self, at: int, size: int, flags: int) -> int:
        if at in self.registered:
            return 712
        self.registered[at] = size
        return 0


class Stream:
    def __init__(self, cuda: TorchCuda, number: int, priority: int) -> None:
        self.cuda, self.handle = cuda, (number, priority)

    def wait_event(self, event: Event) -> None:
        assert event.at is not None, "an event that was never recorded is no place in a stream"


class Event:
    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.timed, self.at = enable_timing, None

    def record(self, stream: Stream) -> None:
        self.at = stream.handle

    def synchronize(self) -> None:
        assert self.at is not None

    def elapsed_time(self, later: Event) -> float:
        if not (self.timed and later.timed):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        return 1.5


class Graph:
    def __init__(self, cuda: TorchCuda) -> None:
        self._cuda, self._pool, self._ended, self.played = cuda, 0, False, 0

    def capture_begin(self, pool: int, capture_error_mode: str = "global") -> None:
        assert capture_error_mode == "thread_local", "other threads load and encode meanwhile"
        if self._cuda.here is self._cuda.default:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        if self._pool:
            raise RuntimeError("This CUDAGraph instance already owns a captured graph.")
        self._cuda.begin(pool)
        self._pool = pool

    def capture_end(self) -> None:
        if self._cuda.invalid:
            self._cuda.invalid = False
            raise RuntimeError("operation failed due to a previous error during capture")
        self._cuda.end(0, self._pool)
        self._ended = True

    def replay(self) -> None:
        if not self._ended:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        self.played += 1

    def __del__(self) -> None:
        if self._ended:
            self._cuda.release(0, self._pool)
