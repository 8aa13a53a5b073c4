"""A stand-in for NVIDIA's `tensorrt` that forgives nothing, and computes with ONNX Runtime on the processor.

It has the names of `typings/tensorrt` and no others. As with the real one: what fails is logged and gives None or
False; an engine of another version is not taken back; a context runs only with its profile, shapes, memory and all
addresses set, on a stream that exists; unknown weights are refused, and weights that were fused have to come together.
What would be undefined behaviour there (an address with other numbers behind it, a misaligned one, two threads at
once) is an error here. `Machine.tensors` knows what lies at each address that was handed out.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import json
import threading
import types
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper

ALIGNED = 256
MAGIC = b"fake-plan"
WORKING = 4096
"""Bytes of working memory that every engine wants."""
NOT_PARSED = {"Attention", "RotaryEmbedding"}


class DataType(enum.Enum):
    FLOAT, HALF, BF16, INT8, INT32, INT64, BOOL, UINT8, FP8 = range(9)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


class BuilderFlag(enum.Enum):
    REFIT, TF32 = range(2)


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.Enum):
    STRONGLY_TYPED = 1

    def __int__(self) -> int:
        return int(self.value)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


KINDS = {TensorProto.FLOAT: DataType.FLOAT, TensorProto.FLOAT16: DataType.HALF, TensorProto.BFLOAT16: DataType.BF16}
TYPES = {DataType.FLOAT: torch.float32, DataType.HALF: torch.float16, DataType.BF16: torch.bfloat16}
NUMPY = {DataType.FLOAT: np.float32, DataType.HALF: np.float16}


@dataclass
class Machine:
    """One process with its card. `misuse` is what no program may do; it is checked after every test."""

    version: str = "11.4.0.106"
    stream: int = 7
    """The stream that torch has chosen."""
    tensors: dict[int, torch.Tensor] = field(default_factory=dict)
    """By address: what torch had there when somebody asked for the address."""
    misuse: list[str] = field(default_factory=list)
    builds: list[dict[str, Any]] = field(default_factory=list)
    runs: int = 0
    steps: int = 4
    """Of each phase of a build."""

    def check(self, right: bool, what: str) -> None:
        if not right:
            self.misuse.append(what)
            raise AssertionError(what)


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self._begun = True

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self._begun = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class Dims(tuple[int, ...]):
    pass


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class ParserError:
    def __init__(self, node: str, said: str) -> None:
        self._node, self._said = node, said

    def desc(self) -> str:
        return self._said

    def node_name(self) -> str:
        return self._node


class ITensor:
    def __init__(self, value: Any) -> None:
        kind = value.type.tensor_type
        self.name: str = value.name
        self.shape = Dims(-1 if dim.dim_param else dim.dim_value for dim in kind.shape.dim)
        self.dtype = KINDS[kind.elem_type]


class INetworkDefinition:
    def __init__(self) -> None:
        self._model: Any = None

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    @property
    def num_outputs(self) -> int:
        return len(self._model.graph.output)

    def get_input(self, index: int) -> ITensor | None:
        return ITensor(self._model.graph.input[index])

    def get_output(self, index: int) -> ITensor | None:
        return ITensor(self._model.graph.output[index])


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Dims, ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = Dims(min), Dims(opt), Dims(max)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._content)

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        return True


class Weights:
    def __init__(self, type: DataType = DataType.FLOAT, ptr: int = 0, count: int = 0) -> None:
        self.dtype, self.size, self._ptr = type, count, ptr


def make(machine: Machine) -> types.ModuleType:
    """The module."""

    def complain(log: ILogger, msg: str) -> None:
        log.log(ILogger.Severity.ERROR, msg)

    def known(log: ILogger) -> ILogger:
        machine.check(isinstance(log, ILogger) and getattr(log, "_begun", False), "a logger that was never begun")
        return log

    def at(address: int, kind: DataType, shape: tuple[int, ...], what: str, aligned: int = ALIGNED) -> Any:
        """The memory at an address, which has to hold just this."""
        machine.check(address % aligned == 0, f"{what} is not aligned")
        found = machine.tensors.get(address)
        machine.check(found is not None, f"nobody asked where {what} lies")
        assert found is not None
        right = found.dtype is TYPES[kind] and tuple(found.shape) == shape and found.is_contiguous()
        machine.check(right, f"{what} is {found.dtype} {tuple(found.shape)}, not {kind} {shape}")
        size = found.numel() * found.element_size()
        return np.frombuffer((ctypes.c_char * size).from_address(address), NUMPY[kind]).reshape(shape)

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            self._network, self._log, self._errors = network, known(logger), list[ParserError]()

        def parse_from_file(self, model: str) -> bool:
            machine.check(isinstance(model, str), "a path has to be text")
            machine.check(self._network._model is None, "a network is parsed into once")
            found = onnx.load(model)
            onnx.checker.check_model(found)
            for node in found.graph.node:
                if node.op_type in NOT_PARSED:
                    self._errors.append(ParserError(node.name, f"no importer for {node.op_type}"))
            if self._errors:
                return False
            self._network._model = found
            return True

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class IBuilderConfig:
        def __init__(self, log: ILogger) -> None:
            self._log, self._flags, self._profiles = log, set[BuilderFlag](), list[IOptimizationProfile]()
            self._made: list[ITimingCache] = []
            self._cache: ITimingCache | None = None
            self.builder_optimization_level, self.max_aux_streams = 3, -1
            self.progress_monitor: IProgressMonitor | None = None

        def set_flag(self, flag: BuilderFlag) -> None:
            self._flags.add(flag)

        def clear_flag(self, flag: BuilderFlag) -> None:
            self._flags.discard(flag)

        def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
            pass

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
            if serialized_timing_cache and not serialized_timing_cache.startswith(f"timing {machine.version}".encode()):
                complain(self._log, "the timing cache is of another version")
                return None
            self._made.append(ITimingCache(bytes(serialized_timing_cache) or f"timing {machine.version}".encode()))
            return self._made[-1]

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            machine.check(any(cache is made for made in self._made), "a timing cache of another configuration")
            self._cache = cache
            return True

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            self._log = known(logger)
            self._networks: list[INetworkDefinition] = []
            self._configs: list[IBuilderConfig] = []

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            machine.check(flags == 1 << 1, "TensorRT 10 reads types as hints unless the network is strongly typed")
            self._networks.append(INetworkDefinition())
            return self._networks[-1]

        def create_builder_config(self) -> IBuilderConfig:
            self._configs.append(IBuilderConfig(self._log))
            return self._configs[-1]

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
            machine.check(network in self._networks and config in self._configs, "of another builder")
            machine.check(network._model is not None, "nothing was parsed")
            inputs = [ITensor(each) for each in network._model.graph.input]
            outputs = [ITensor(each) for each in network._model.graph.output]
            free = [each for each in inputs if -1 in each.shape]
            if free and not config._profiles:
                return complain(self._log, f"{free[0].name} is of no fixed shape, and there is no profile")
            for profile in config._profiles:
                for each in inputs:
                    shapes = profile._shapes.get(each.name, (each.shape,) * 3)
                    if -1 in shapes[0] or not all(_within(each.shape, shape) for shape in shapes):
                        return complain(self._log, f"the profile's shape of {each.name} is not the network's")
                if unknown := profile._shapes.keys() - {each.name for each in inputs}:
                    machine.check(False, f"a profile for {unknown}, which the network has not")
            if not _work(machine, config.progress_monitor):
                return complain(self._log, "the build was cancelled")
            if config._cache is not None:
                config._cache._content += b" measured"
            profiles = [
                {each.name: [list(s) for s in profile._shapes.get(each.name, (each.shape,) * 3)] for each in inputs}
                for profile in config._profiles
            ]
            sides = ((1, inputs), (2, outputs))
            ports = {e.name: [mode, e.dtype.name, list(e.shape)] for mode, side in sides for e in side}
            notes = {
                "version": machine.version, "ports": ports, "profiles": profiles or [{}],
                "refit": BuilderFlag.REFIT in config._flags,
            }  # fmt: skip
            machine.builds.append(notes)
            head = json.dumps(notes).encode()
            return IHostMemory(MAGIC + len(head).to_bytes(4, "little") + head + network._model.SerializeToString())

    class ICudaEngine:
        def __init__(self, notes: dict[str, Any], model: Any, log: ILogger) -> None:
            self._notes, self._model, self._log = notes, model, log
            self._busy = threading.Lock()
            self._load()

        def _load(self) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4
            self._session = onnxruntime.InferenceSession(
                self._model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )

        num_io_tensors = property(lambda self: len(self._notes["ports"]))
        num_optimization_profiles = property(lambda self: len(self._notes["profiles"]))
        refittable = property(lambda self: self._notes["refit"])
        device_memory_size_v2 = property(lambda self: WORKING)

        def get_tensor_name(self, index: int) -> str:
            return str(list(self._notes["ports"])[index])

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode(self._notes["ports"][name][0]) if name in self._notes["ports"] else TensorIOMode.NONE

        def get_tensor_dtype(self, name: str) -> DataType:
            return DataType[self._notes["ports"][name][1]]

        def get_tensor_shape(self, name: str) -> Dims:
            return Dims(self._notes["ports"][name][2])

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
            machine.check(self.get_tensor_mode(name) is TensorIOMode.INPUT, f"{name} is no input")
            return [Dims(shape) for shape in self._notes["profiles"][profile_index][name]]

        def create_execution_context(self, strategy: Any = ExecutionContextAllocationStrategy.STATIC) -> Any:
            return IExecutionContext(self, strategy)

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine, strategy: ExecutionContextAllocationStrategy) -> None:
            self._engine, self._own = engine, strategy is not ExecutionContextAllocationStrategy.USER_MANAGED
            self._profile = -1 if engine.num_optimization_profiles > 1 else 0
            self._shapes: dict[str, Dims] = {}
            self._places: dict[str, int] = {}

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            machine.check(stream_handle == machine.stream, "on another stream than torch's")
            if not 0 <= profile_index < self._engine.num_optimization_profiles:
                complain(self._engine._log, "there is no such profile")
                return False
            self._profile, self._shapes = profile_index, {}
            return True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            machine.check(self._profile >= 0, "a shape before a profile")
            least, _, most = self._engine.get_tensor_profile_shape(name, self._profile)
            right = len(shape) == len(least)
            if not right or not all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True)):
                complain(self._engine._log, f"{name} is not within its profile")
                return False
            self._shapes[name] = Dims(shape)
            return True

        def get_tensor_shape(self, name: str) -> Dims:
            if self._engine.get_tensor_mode(name) is TensorIOMode.INPUT:
                return self._shapes.get(name, self._engine.get_tensor_shape(name))
            rows = next(iter(self._shapes.values()), (1,))[0]
            return Dims(rows if n == -1 else n for n in self._engine.get_tensor_shape(name))

        def set_device_memory(self, memory: int, size: int) -> None:
            machine.check(not self._own, "it has memory of its own")
            machine.check(memory % ALIGNED == 0 and memory in machine.tensors, "no such memory")
            machine.check(machine.tensors[memory].nbytes >= size >= WORKING, "too little working memory")
            self._own = True

        def set_tensor_address(self, name: str, memory: int) -> bool:
            if self._engine.get_tensor_mode(name) is TensorIOMode.NONE:
                complain(self._engine._log, f"there is no tensor {name}")
                return False
            self._places[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            machine.check(stream_handle == machine.stream, "on another stream than torch's")
            machine.check(self._own, "without working memory")
            machine.check(self._engine._busy.acquire(blocking=False), "two threads at once")
            try:
                return self._run()
            finally:
                self._engine._busy.release()

        def _run(self) -> bool:
            ports, places = self._engine._notes["ports"], self._places
            if lacking := [name for name in ports if name not in places]:
                complain(self._engine._log, f"no address for {lacking[0]}")
                return False
            memory = {
                name: at(places[name], self._engine.get_tensor_dtype(name), tuple(self.get_tensor_shape(name)), name)
                for name in ports
            }
            inputs = {name: memory[name] for name, port in ports.items() if port[0] == 1}
            outputs = [name for name, port in ports.items() if port[0] == 2]
            for name, found in zip(outputs, self._engine._session.run(outputs, inputs), strict=True):
                memory[name][...] = found
            machine.runs += 1
            return True

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self._log = known(logger)

        def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
            content = bytes(serialized_engine)
            if not content.startswith(MAGIC):
                return complain(self._log, "magic tag does not match")
            size = int.from_bytes(content[len(MAGIC) :][:4], "little")
            rest = content[len(MAGIC) + 4 :]
            notes = json.loads(rest[:size])
            if notes["version"] != machine.version:
                return complain(self._log, f"the engine is of version {notes['version']}")
            return ICudaEngine(notes, onnx.load_from_string(rest[size:]), self._log)

    class Refitter:
        def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
            machine.check(engine.refittable, "the engine was not built to be refitted")
            self._engine, self._log, self._set = engine, known(logger), dict[str, Any]()
            kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
            self._weights = {
                w.name: w for w in engine._model.graph.initializer if len(w.dims) > 1 and w.data_type in kinds
            }
            rows = [list(group) for _, group in itertools.groupby(self._weights.values(), lambda w: tuple(w.dims))]
            pairs = [row[i : i + 2] for row in rows for i in range(0, len(row), 2)]
            self._fused = [{weight.name for weight in pair} for pair in pairs]  # as the real one does with neighbours

        def get_all_weights(self) -> list[str]:
            return list(self._weights)

        def get_missing_weights(self) -> list[str]:
            touched = [group for group in self._fused if group & self._set.keys()]
            return sorted(set().union(*touched) - self._set.keys()) if touched else []

        def get_weights_prototype(self, weights_name: str) -> Weights:
            found = self._weights.get(weights_name)
            if found is None:
                return Weights(count=-1)
            return Weights(KINDS[found.data_type], 0, int(np.prod(found.dims)))

        def set_named_weights(self, name: str, weights: Weights, location: TensorLocation) -> bool:
            machine.check(isinstance(location, TensorLocation), "where the weights lie has to be said")
            wanted = self.get_weights_prototype(name)
            if (weights.dtype, weights.size) != (wanted.dtype, wanted.size):
                complain(self._log, f"{name} is unknown, or of another size or type")
                return False
            self._set[name] = weights
            return True

        def refit_cuda_engine_async(self, stream_handle: int) -> bool:
            machine.check(stream_handle == machine.stream, "on another stream than torch's")
            if self.get_missing_weights():
                complain(self._log, "weights are missing")
                return False
            for name, given in self._set.items():
                held = self._weights[name]
                found = at(given._ptr, given.dtype, tuple(held.dims), name, aligned=1)
                held.CopyFrom(numpy_helper.from_array(found.copy(), name))
            self._set = {}
            self._engine._load()
            return True

    module = types.ModuleType("tensorrt")
    module.__spec__ = ModuleSpec("tensorrt", None)
    module.__version__ = machine.version
    own = (OnnxParser, IBuilderConfig, Builder, ICudaEngine, IExecutionContext, Runtime, Refitter)
    shared = (
        DataType, TensorIOMode, TensorLocation, BuilderFlag, MemoryPoolType, NetworkDefinitionCreationFlag,
        ExecutionContextAllocationStrategy, ILogger, IProgressMonitor, Dims, IHostMemory, ParserError, ITensor,
        INetworkDefinition, IOptimizationProfile, ITimingCache, Weights,
    )  # fmt: skip
    for each in (*own, *shared):
        setattr(module, each.__name__, each)
    return module


def _within(shape: Dims, fixed: Dims) -> bool:
    return len(shape) == len(fixed) and all(n in (-1, m) for n, m in zip(shape, fixed, strict=True))


def _work(machine: Machine, monitor: IProgressMonitor | None) -> bool:
    """Two phases, one in the other, reported by a thread of the builder's own; whether they came to their end."""
    if monitor is None:
        return True
    machine.check(getattr(monitor, "_begun", False), "a monitor that was never begun")
    went_on = True

    def run() -> None:
        nonlocal went_on
        monitor.phase_start("Building", None, machine.steps)
        for outer in range(machine.steps):
            monitor.phase_start("Timing", "Building", 2)
            went_on = went_on and monitor.step_complete("Timing", 0) and monitor.step_complete("Timing", 1)
            monitor.phase_finish("Timing")
            if not went_on or not monitor.step_complete("Building", outer):
                went_on = False
                break
        monitor.phase_finish("Building")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return went_on
