"""engines.machine on an NVIDIA card, by torch. What runs nowhere but there is in this file, and little else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

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


class CudaGraph:
    """Implements engines.machine.Graph."""

    def __init__(self, pool: Any, device: torch.device) -> None:
        self._graph, self._pool, self._device = torch.cuda.CUDAGraph(), pool, device

    @contextmanager
    def record(self) -> Iterator[None]:
        torch.cuda.synchronize(self._device)  # nothing that is still at work may be counted as free meanwhile
        # other threads load networks and encode prompts: what they ask of the card is none of this recording's
        self._graph.capture_begin(self._pool, capture_error_mode="thread_local")
        try:
            yield
        except BaseException:
            with suppress(RuntimeError):  # it says once more that the recording is worth nothing
                self._graph.capture_end()
            raise
        self._graph.capture_end()

    def play(self) -> None:
        self._graph.replay()


class CudaMachine:
    """Implements engines.machine.Machine."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self) -> CudaStream:
        return CudaStream(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]

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

    def pool(self) -> Any:
        return torch.cuda.graph_pool_handle()

    def graph(self, pool: Any, /) -> CudaGraph:
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
