"""The fake of TensorRT has what the stub says, the stub has what NVIDIA's bindings say, and neither forgives."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from engines.tensorrt_program import empty
from engines.tensorrt_progress import Progress
from tests.support import fake_tensorrt
from tests.support.fake_tensorrt import Machine

STUB = Path(__file__).parents[2] / "typings" / "tensorrt" / "__init__.pyi"
OURS = {"__init__", "__len__", "__getitem__", "__buffer__", "__int__"}
"""What Python calls, by no name of TensorRT's."""


def stub():
    """Class (nested ones as Outer.Inner) to its names; the module's own under an empty one."""
    found: dict[str, set[str]] = {"": set()}

    def walk(body, name):
        for node in body:
            if isinstance(node, ast.ClassDef):
                inner = f"{name}.{node.name}".lstrip(".")
                found[inner] = set()
                walk(node.body, inner)
            elif isinstance(node, ast.FunctionDef):
                found[name].add(node.name)
            elif isinstance(node, ast.AnnAssign):
                found[name].add(node.target.id)
            elif isinstance(node, ast.Assign):
                found[name].add(node.targets[0].id)

    walk(ast.parse(STUB.read_text()).body, "")
    return found


def test_the_fake_has_what_the_stub_says_and_no_more():
    module = fake_tensorrt.make(Machine())
    public = {name for name in vars(module) if not name.startswith("_")}
    assert public == {name for name in stub() if name and "." not in name}
    for name, members in stub().items():
        if not name:
            continue
        owner = module
        for part in name.split("."):
            owner = getattr(owner, part)
        lacking = {member for member in members - OURS if not hasattr(owner, member)}
        made_in_init = {
            "builder_optimization_level",
            "max_aux_streams",
            "progress_monitor",
            "name",
            "shape",
            "dtype",
            "size",
        }
        assert not lacking - made_in_init, name
        extra = {member for member in vars(owner) if not member.startswith("_")} - members
        assert not {member for member in extra if member not in ("name", "value", "Severity")}, name


def bindings():
    """NVIDIA's compiled bindings, where they are installed or unpacked: pip's tensorrt_cu12_bindings or _cu13_."""
    given = os.environ.get("LIVELATENT_TENSORRT_BINDINGS", "")
    found = importlib.util.find_spec("tensorrt_bindings")
    root = Path(given) if given else Path(found.origin).parent if found and found.origin else None
    files = [*root.rglob("tensorrt*.so"), *root.rglob("tensorrt*.pyd")] if root else []
    return files[0].read_bytes() if files else None


@pytest.mark.skipif(
    bindings() is None,
    reason="NVIDIA's bindings are not here: unpack the wheel, name it in LIVELATENT_TENSORRT_BINDINGS",
)
def test_the_bindings_have_what_the_stub_says():
    """By name: bindings without their libraries can't be imported, but their names stand in them as text."""
    held = bindings()
    for name, members in stub().items():
        wanted = {*name.split("."), *members} - OURS - {"", "__version__"}
        assert not {each for each in wanted if not _there(each, held)}, name
    assert not _there("set_tensor_adress", held)


def _there(name, held):
    """As a text of its own or at the end of one, which is how linkers keep them."""
    return name.encode() + b"\0" in held or re.search(rb"\b" + name.encode() + rb"\b", held) is not None


def test_what_no_program_may_do_is_an_error(tmp_path):
    """So that a test over the fake can fail."""
    machine = Machine()
    trt = fake_tensorrt.make(machine)

    class Silent(trt.ILogger):
        said: tuple[str, ...] = ()

        def log(self, severity, msg):
            self.said += (msg,)

    class Unbegun(Silent):
        def __init__(self):
            pass

    log = Silent()
    builder = trt.Builder(log)
    misuses = [
        lambda: trt.Builder(Unbegun()),
        lambda: builder.create_network(0),
        lambda: builder.build_serialized_network(builder.create_network(2), builder.create_builder_config()),
    ]
    engine = trt.Runtime(log).deserialize_cuda_engine(plan(trt, builder, log, tmp_path))
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    misuses += [
        lambda: trt.Refitter(engine, log),
        lambda: context.execute_async_v3(machine.stream),  # no memory yet
        lambda: context.execute_async_v3(0),
    ]
    for misuse in misuses:
        with pytest.raises(AssertionError):
            misuse()
    assert trt.Runtime(log).deserialize_cuda_engine(b"rubbish") is None
    assert "magic" in log.said[-1]
    machine.version = "12.0"
    assert trt.Runtime(log).deserialize_cuda_engine(plan(trt, builder, log, tmp_path)) is not None
    assert context.set_tensor_address("nobody", 256) is False
    memory = noted(machine, empty((4096,), torch.uint8, torch.device("cpu")))
    context.set_device_memory(memory, 4096)
    assert context.execute_async_v3(machine.stream) is False
    assert "no address" in log.said[-1]
    out = empty((1, 3), torch.float32, torch.device("cpu"))
    context.set_tensor_address("y", noted(machine, out))
    for shape, dtype in (((1, 3), torch.float16), ((1, 4), torch.float32)):
        context.set_tensor_address("x", noted(machine, empty(shape, dtype, torch.device("cpu"))))
        with pytest.raises(AssertionError, match="x is"):
            context.execute_async_v3(machine.stream)
    given = empty((1, 3), torch.float32, torch.device("cpu")).fill_(1.0)
    context.set_tensor_address("x", noted(machine, given) + 4)
    with pytest.raises(AssertionError, match="not aligned"):
        context.execute_async_v3(machine.stream)
    context.set_tensor_address("x", noted(machine, given))
    assert context.execute_async_v3(machine.stream) is True
    assert out.tolist() == [[2.0, 2.0, 2.0]]


def noted(machine, tensor):
    machine.tensors[tensor.data_ptr()] = tensor
    return tensor.data_ptr()


def plan(trt, builder, log, folder):
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "double.onnx")
    network = builder.create_network(2)
    assert trt.OnnxParser(network, log).parse_from_file(str(folder / "double.onnx"))
    return builder.build_serialized_network(network, builder.create_builder_config())


def test_the_share_of_a_build_never_falls_and_counts_phases_within_phases():
    told = []
    progress = Progress(lambda share, phase: told.append((round(share, 3), phase)))
    progress.start("all", None, 4)
    progress.start("part", "all", 2)
    assert progress.step("part", 0)
    assert progress.step("part", 1)
    progress.finish("part")
    assert progress.step("all", 0)
    progress.start("part", "all", 10)
    assert progress.step("part", 4)
    progress.finish("part")  # early: that is allowed
    assert progress.step("all", 3)
    progress.step("nobody", 0)
    assert told == [(0.125, "part"), (0.25, "part"), (0.375, "part"), (1.0, "all")]
    assert Progress(lambda *_: None, lambda: True).step("all", 0) is False


def test_torch_is_never_asked_for_what_it_lacks(monkeypatch):
    """Every import of TensorRT is inside a function: without it, the engine's modules load."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for name in ("api", "build", "graph", "order", "program", "progress"):
        module = importlib.import_module(f"engines.tensorrt_{name}")
        assert importlib.reload(module) is module
