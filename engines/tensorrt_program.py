"""A network as TensorRT runs it: tensors in, tensors out, on torch's stream, so that a captured frame holds it.

One context for each number of rows, all over one piece of working memory that is ours, at an address that never
changes. Inputs are read where they lie, as far as they lie as TensorRT wants them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from engines import tensorrt_api
from engines.cache import Entry
from engines.errors import ModelError
from engines.tensorrt_api import last_error, logger

if TYPE_CHECKING:
    import tensorrt as trt

ALIGNED = 256
"""Bytes: what TensorRT asks of every address. torch's own on a card are; parts of them need not be."""


class Port(NamedTuple):
    """One input or output of a context."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class _Run(NamedTuple):
    """One context: so many rows."""

    context: trt.IExecutionContext
    inputs: list[Port]
    outputs: list[Port]


class Program:
    """A compiled network. One thread at a time; a lock sees to it."""

    def __init__(self, entry: Entry, device: torch.device) -> None:
        """Raises ModelError for an engine that this TensorRT or this card does not take."""
        import tensorrt as trt

        self._device, self._notes = device, entry.notes
        last_error()
        self._runtime = trt.Runtime(logger())
        engine = self._runtime.deserialize_cuda_engine(entry.content)
        if engine is None:
            raise ModelError(f"TensorRT does not take a compiled network back: {last_error()}")
        self.engine: trt.ICudaEngine = engine
        self._memory: list[Tensor] = []
        self._recorded, self._beside = self._contexts(), self._contexts()
        """By rows. What is recorded keeps its working memory, and is played while a new mode is warmed up beside it."""
        self._zeros: dict[Port, Tensor] = {}
        self._held: list[Tensor] = []
        """What the last run read and wrote: the card may not be done with it."""
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """All inputs in order, the first one's rows deciding; the last ones may be left out and are zeros. Rows of
        which there is but one count for all. Raises RuntimeError as a failing kernel would."""
        runs = self._recorded if tensorrt_api.recording(self._device) else self._beside
        return self._run(runs[inputs[0].shape[0]], inputs)

    def _run(self, run: _Run, inputs: Sequence[Tensor]) -> list[Tensor]:
        with self._lock:
            held = [self._fitted(port, inputs[i] if i < len(inputs) else None) for i, port in enumerate(run.inputs)]
            made = [empty(port.shape, port.dtype, self._device) for port in run.outputs]
            for port, tensor in zip((*run.inputs, *run.outputs), (*held, *made), strict=True):
                if not run.context.set_tensor_address(port.name, tensor.data_ptr()):
                    raise RuntimeError(f"TensorRT refuses {port.name}: {last_error()}")
            if not run.context.execute_async_v3(tensorrt_api.stream_of(self._device)):
                raise RuntimeError(f"TensorRT does not run: {last_error()}")
            self._held = [*held, *made]
        return made

    def zeros(self, rows: int) -> list[Tensor]:
        """A run that nobody looks at: lets kernels load, as no captured frame may."""
        return self._blank(self._beside[rows])

    def warm(self) -> None:
        """One run of every context."""
        for run in (*self._recorded.values(), *self._beside.values()):
            self._blank(run)

    def _blank(self, run: _Run) -> list[Tensor]:
        first = run.inputs[0]
        return self._run(run, [torch.zeros(first.shape, dtype=first.dtype, device=self._device)])

    def _contexts(self) -> dict[int, _Run]:
        """Those of all profiles, over memory of their own: they never run beside each other."""
        import tensorrt as trt

        stream, engine = tensorrt_api.stream_of(self._device), self.engine
        there = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
        names = self._notes["inputs"], self._notes["outputs"]
        if there != {*names[0], *names[1]}:
            raise ModelError("a compiled network has other inputs and outputs than it was built with")
        size = engine.device_memory_size_v2
        memory = empty((size,), torch.uint8, self._device)
        self._memory.append(memory)
        found: dict[int, _Run] = {}
        for profile in range(engine.num_optimization_profiles):
            context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if context is None:
                raise ModelError(f"TensorRT makes no context: {last_error()}")
            context.set_device_memory(memory.data_ptr(), size)
            if not context.set_optimization_profile_async(profile, stream):
                raise ModelError(f"TensorRT does not take its own shapes: {last_error()}")
            for name in names[0]:
                shape = tuple(engine.get_tensor_profile_shape(name, profile)[1])
                if not context.set_input_shape(name, shape):
                    raise ModelError(f"TensorRT does not take the shape of {name}: {last_error()}")
            ports = [
                [
                    Port(name, tuple(context.get_tensor_shape(name)), kind_of(engine.get_tensor_dtype(name)))
                    for name in side
                ]
                for side in names
            ]
            found[ports[0][0].shape[0]] = _Run(context, ports[0], ports[1])
        return found

    def _fitted(self, port: Port, x: Tensor | None) -> Tensor:
        """`x` as `port` wants it; itself where it can."""
        if x is None:
            if port not in self._zeros:
                self._zeros[port] = empty(port.shape, port.dtype, self._device).zero_()
            return self._zeros[port]
        x = x.to(port.dtype).expand(port.shape).contiguous()
        return x if x.data_ptr() % ALIGNED == 0 else empty(port.shape, port.dtype, self._device).copy_(x)


class Refit:
    """Gives a running engine other weights: those of a network of torch's that it was built from."""

    def __init__(self, program: Program, notes: Mapping[str, tuple[str, bool]], device: torch.device) -> None:
        """`notes`: name of a weight in the engine to path of a layer, and whether it is turned round there."""
        import tensorrt as trt

        self._device = device
        self._refitter = trt.Refitter(program.engine, logger())
        can = set(self._refitter.get_all_weights())
        self._names = {path: (name, way) for name, (path, way) in notes.items() if name in can}
        self._paths = {name: path for path, (name, _) in self._names.items()}
        self._held: list[Tensor] = []

    def covers(self, paths: set[str]) -> bool:
        """Whether these layers can be given other weights."""
        return paths <= self._names.keys()

    def __call__(self, paths: set[str], weight: Callable[[str], Tensor]) -> None:
        """Take over the weights of these layers, on the device, before the next run on this stream. TensorRT fuses
        layers, and then wants the others of a fusion too. Raises RuntimeError."""
        last_error()
        self._held = []
        for path in sorted(paths):
            self._set(path, weight(path))
        while missing := self._refitter.get_missing_weights():
            if not all(name in self._paths for name in missing):
                raise RuntimeError(f"TensorRT wants weights that nobody knows: {missing[0]}")
            for name in missing:
                self._set(self._paths[name], weight(self._paths[name]))
        if not self._refitter.refit_cuda_engine_async(tensorrt_api.stream_of(self._device)):
            raise RuntimeError(f"TensorRT does not take other weights: {last_error()}")

    def _set(self, path: str, weight: Tensor) -> None:
        import tensorrt as trt

        name, turned = self._names[path]
        kind = self._refitter.get_weights_prototype(name).dtype
        x = (weight.T if turned else weight).to(kind_of(kind)).contiguous()
        self._held.append(x)  # until the card has read it
        place = trt.TensorLocation.DEVICE
        if not self._refitter.set_named_weights(name, trt.Weights(kind, x.data_ptr(), x.numel()), place):
            raise RuntimeError(f"TensorRT refuses the weights {name}: {last_error()}")


def kind_of(kind: trt.DataType) -> torch.dtype:
    """torch's name for it. Raises ModelError for one that no border of our networks has."""
    import tensorrt as trt

    kinds = {trt.DataType.FLOAT: torch.float32, trt.DataType.HALF: torch.float16, trt.DataType.BF16: torch.bfloat16}
    if kind not in kinds:
        raise ModelError(f"a compiled network has numbers of the unexpected type {kind}")
    return kinds[kind]


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory that begins at a multiple of `ALIGNED`."""
    if device.type == "cuda":
        return torch.empty(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    raw = torch.empty(size + ALIGNED, dtype=torch.uint8, device=device)
    return raw[-raw.data_ptr() % ALIGNED :][:size].view(dtype).view(shape)
