"""Small ONNX networks in the layouts of YOLOX and RTMPose: the detector finds what is red, all people stand alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
"""Of the detector's picture."""
WIDTH, HEIGHT = 48, 64
"""Of the pose network's."""
CELLS = (SIDE // 8) ** 2
ALL_CELLS = CELLS + (SIDE // 16) ** 2 + (SIDE // 32) ** 2
BODY = np.array([(24 + 1.5 * (n % 2 * 2 - 1) * (n // 2), 6 + 3 * n) for n in range(17)])
"""Where each of COCO's joints is in a person's crop, in half pixels."""


def _constant(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def _model(nodes: Sequence[Any], size: tuple[int, int], outputs: dict[str, Sequence[int]], constants: list[Any]) -> Any:
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    shown = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph(list(nodes), "small", [shown], made, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def detector() -> Any:
    """YOLOX as it is published: [1, cells, 4 + 1 + classes], blue first, 0 to 255. Red is a person, two cells wide."""
    kernel = np.zeros((1, 3, 8, 8), np.float32)
    kernel[0, 2], kernel[0, :2] = 1 / 64 / 255, -1 / 64 / 255
    boxes = np.tile(np.array([0.5, 0.5, np.log(2.0), np.log(2.0)], np.float32), (1, ALL_CELLS, 1))
    rest = np.zeros((1, ALL_CELLS - CELLS, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["red"], strides=[8, 8]),
        helper.make_node("Relu", ["red"], ["sure"]),
        helper.make_node("Reshape", ["sure", "shape"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["score"], axis=1),
        helper.make_node("Concat", ["boxes", "score", "ones", "zeros"], ["output"], axis=2),
    ]
    one = np.ones((1, ALL_CELLS, 1), np.float32)
    constants = [_constant("kernel", kernel), _constant("boxes", boxes), _constant("rest", rest)]
    constants += [_constant("ones", one), _constant("zeros", 0 * one)]
    constants.append(numpy_helper.from_array(np.array([1, CELLS, 1], np.int64), "shape"))
    return _model(nodes, (SIDE, SIDE), {"output": [1, ALL_CELLS, 7]}, constants)


def pose(joints: int = 17) -> Any:
    """RTMPose's two outputs: BODY, and the more sure the more red there is."""
    along = {"x": np.zeros((1, joints, 2 * WIDTH)), "y": np.zeros((1, joints, 2 * HEIGHT))}
    for n, (x, y) in enumerate(BODY[:joints]):
        along["x"][0, n, round(2 * x)] = along["y"][0, n, round(2 * y)] = 0.4
    nodes = [
        helper.make_node("Slice", ["input", "first", "second", "channel"], ["red"]),
        helper.make_node("ReduceMax", ["red"], ["most"], keepdims=0),
        *(helper.make_node("Mul", [f"body_{side}", "most"], [f"simcc_{side}"]) for side in "xy"),
    ]
    constants = [_constant(f"body_{side}", values) for side, values in along.items()]
    for name, value in (("first", 0), ("second", 1), ("channel", 1)):
        constants.append(numpy_helper.from_array(np.array([value], np.int64), name))
    outputs = {"simcc_x": [1, joints, 2 * WIDTH], "simcc_y": [1, joints, 2 * HEIGHT]}
    return _model(nodes, (HEIGHT, WIDTH), outputs, constants)


def write_pose(folder: Path, joints: int = 17) -> Path:
    """Both in a folder, under the names that DWPose has."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(detector(), str(folder / "yolox_l.onnx"))
    onnx.save(pose(joints), str(folder / "dw-ll_ucoco_384.onnx"))
    return folder
