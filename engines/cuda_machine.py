"""engines.machine on an NVIDIA card, by torch. What runs nowhere but there is in this file, and little else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import torch
from torch import Tensor

from engines.hostmemory import host_tensor


class CudaEvent:
    """Implements engines.machine.Event."""

    def __init__(self, stream: torch.cuda.Stream, timed: bool) -> None:
        # one that the host waits for asleep: the worker's other threads need the processor
        self.event = torch.cuda.Event(enable_timing=timed, blocking=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def wait(self) -> None:
        self.event.synchronize()

    def since(self, earlier: CudaEvent, /) -> float:
        return float(earlier.event.elapsed_time(self.event))


class CudaStream:
    """Implements engines.machine.Stream."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.stream = stream

    def mark(self, timed: bool = False) -> CudaEvent:
        return CudaEvent(self.stream, timed)

    def follow(self, event: CudaEvent, /) -> None:
        self.stream.wait_event(event.event)


class CudaPool:
    """Memory that graphs share, under a name of torch's.

    When a pool's last graph goes torch takes no other under that name (c10's `create_or_incref_pool` asserts it); and a
    stream whose input changes its size lets go of all its graphs, and records others. So one that is never played stays
    as long as the pool.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.name = torch.cuda.graph_pool_handle()
        self._anchor: torch.cuda.CUDAGraph | None = None
        self._broken: list[torch.cuda.CUDAGraph] = []

    def hold(self) -> None:
        """Before a graph is recorded in it, on a stream that can be recorded."""
        if self._anchor is None:
            one, anchor = torch.zeros(1, device=self._device), torch.cuda.CUDAGraph()
            anchor.capture_begin(self.name, capture_error_mode="thread_local")
            one.zero_()
            anchor.capture_end()
            self._anchor = anchor

    def give_up(self, graph: torch.cuda.CUDAGraph) -> None:
        """The driver called a recording invalid: to torch it goes on for good, in this pool. Those to come get another;
        `graph`, which torch's allocators may still ask, stays."""
        self._broken.append(graph)
        index = self._device.index if self._device.index is not None else torch.cuda.current_device()
        with suppress(RuntimeError):  # where it had ended after all
            torch._C._cuda_endAllocateToPool(index, self.name)
            torch._C._cuda_releasePool(index, self.name)
        self.name, self._anchor = torch.cuda.graph_pool_handle(), None


class CudaGraph:
    """Implements engines.machine.Graph."""

    def __init__(self, pool: CudaPool, device: torch.device) -> None:
        self._graph, self._pool, self._device = torch.cuda.CUDAGraph(), pool, device

    @contextmanager
    def record(self) -> Iterator[None]:
        torch.cuda.synchronize(self._device)  # nothing that is still at work may be counted as free meanwhile
        self._pool.hold()
        # other threads load networks and encode prompts: what they ask of the card is none of this recording's
        self._graph.capture_begin(self._pool.name, capture_error_mode="thread_local")
        try:
            yield
        except BaseException:
            with suppress(RuntimeError):  # it says once more that the recording is worth nothing
                self._end()
            raise
        self._end()

    def _end(self) -> None:
        try:
            self._graph.capture_end()
        except RuntimeError:
            self._pool.give_up(self._graph)
            raise

    def play(self) -> None:
        self._graph.replay()


class CudaMachine:
    """Implements engines.machine.Machine."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self, first: bool = False) -> CudaStream:
        # torch has 32 streams of each priority, and after the last it gives the first again. So those of frames, which
        # are recorded, are never those of anybody who asks for one without a priority.
        return CudaStream(torch.cuda.Stream(self._device, priority=-1 if first else 0))  # type: ignore[no-untyped-call]

    def others(self) -> CudaStream:
        return CudaStream(torch.cuda.default_stream(self._device))

    def here(self) -> CudaStream:
        return CudaStream(torch.cuda.current_stream(self._device))

    @contextmanager
    def on(self, stream: CudaStream, /) -> Iterator[None]:
        with torch.cuda.stream(stream.stream):
            yield

    def rehearse(self, stream: CudaStream, /) -> AbstractContextManager[None]:
        return self.on(stream)

    def pool(self) -> CudaPool:
        return CudaPool(self._device)

    def graph(self, pool: CudaPool, /) -> CudaGraph:
        return CudaGraph(pool, self._device)

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def pin(self, at: int, size: int) -> Tensor:
        code = int(torch.cuda.cudart().cudaHostRegister(at, size, 0))  # type: ignore[no-untyped-call]
        if code:
            with suppress(RuntimeError):  # the next kernel of anybody's would be told of this error: let it be ours
                torch.zeros(1, device=self._device)
            raise RuntimeError(f"the driver refused to register {size} bytes, error {code}")
        return host_tensor(at, size)

    def unpin(self, tensor: Tensor, /) -> None:
        torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())  # type: ignore[no-untyped-call]

    def claim(self, tensor: Tensor, /) -> None: ...


def machine_of(device: torch.device) -> CudaMachine | None:
    """Its streams, if it has any."""
    return CudaMachine(device) if device.type == "cuda" else None
