"""Every network of a model as an ONNX file, for other programs and other engines' builders.

Sizes are fixed, or free in height and width. A network whose weights are large keeps them in a file of their own
beside it, as the format wants it. Checked by ONNX Runtime against torch where that is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from engines.base import Build
from engines.control import ControlLoader, residual_shapes
from engines.eager import load_modules, load_text, sentences
from engines.errors import ModelError
from engines.graphs import Graph, codec_graphs, control_graphs, text_graphs, unet_graph
from engines.weights import check_folder

OPSET = 23
CLOSE = 1e-3
"""By so much, of the largest value, ONNX Runtime's result may differ from torch's in fp32."""
LARGE = 1 << 30
"""Bytes of weights; more go into a file of their own, as one message of the format holds no more than twice that."""
CPU = torch.device("cpu")


@torch.no_grad()
def export(folder: Path, build: Build, out: Path, controlnets: Sequence[Path] = (), free: bool = False) -> list[Path]:
    """Write `unet.onnx`, `encode.onnx`, `decode.onnx`, `text.onnx` (SDXL: `text_2.onnx` too), and for the ControlNet
    in each folder NAME `NAME.onnx` and `NAME_embed.onnx`. `free`: height and width are not fixed. Raises ModelError."""
    if importlib.util.find_spec("onnxscript") is None:
        raise ModelError("ONNX export needs `pip install livelatent[onnx]`")
    out.mkdir(parents=True, exist_ok=True)
    return [write(name, graph, out, free) for name, graph in graphs(folder, build, controlnets)]


def graphs(folder: Path, build: Build, controlnets: Sequence[Path] = ()) -> Iterator[tuple[str, Graph]]:
    """Every network by its file's name. Raises ModelError."""
    variants = check_folder(folder).variants
    with sentences(folder):
        text = load_text(folder, build, variants, CPU, torch.float32)
        found = load_modules(folder, build, variants, CPU, torch.float32)
    yield "unet", unet_graph(found, text.spec.outputs)
    yield from codec_graphs(found, (build.height, build.width)).items()
    yield from text_graphs(text).items()
    residuals = residual_shapes(found.unet.config, found.latent)
    loader = ControlLoader(found.latent, text.spec.outputs, residuals, CPU, torch.float32)
    for path in controlnets:
        parts = control_graphs(loader(path))
        yield path.name, parts["control"]
        yield f"{path.name}_embed", parts["embed"]


def check(path: Path, graph: Graph) -> float:
    """The largest difference between ONNX Runtime's outputs and torch's, as a part of the largest value."""
    ort = importlib.import_module("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: tensor.numpy() for name, tensor in graph.inputs.items()})
    with torch.no_grad():
        wanted = graph.module(*graph.inputs.values())
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    return max(
        float((torch.from_numpy(a) - b).abs().max() / b.abs().max().clamp(min=1e-6))
        for a, b in zip(found, wanted, strict=True)
    )


def write(
    name: str, graph: Graph, out: Path, free: bool, *, opset: int = OPSET, batched: Sequence[str] = (),
    table: Mapping[Callable[..., object], Callable[..., object]] | None = None,
) -> Path:  # fmt: skip
    """Write one network; returns its file. `batched`: inputs whose number of rows is free, their examples of two rows.
    `table`: how operators of our own are written."""
    path = out / f"{name}.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, whose operators nobody has here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every branch that fixed shapes decide
        torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=opset,
            dynamo=True,
            external_data=_bytes(graph) > LARGE,
            dynamic_shapes=_free(graph) if free else _rows(graph, batched) if batched else None,
            custom_translation_table=dict(table or {}),
            verbose=False,
        )
    return path


def _bytes(graph: Graph) -> int:
    return sum(weight.numel() * weight.element_size() for weight in graph.module.parameters())


def _free(graph: Graph) -> tuple[object, ...]:
    """Height and width of everything that has them, each by itself: how they hang together the exporter finds out."""
    auto = torch.export.Dim.AUTO
    return _axes([{2: auto, 3: auto} if tensor.dim() == 4 else {} for tensor in graph.inputs.values()])


def _rows(graph: Graph, batched: Sequence[str]) -> tuple[object, ...]:
    """One row or two, the same for all inputs that are `batched`."""
    rows = torch.export.Dim("rows", min=1, max=2)
    return _axes([{0: rows} if name in batched else {} for name in graph.inputs])


def _axes(axes: list[dict[int, object]]) -> tuple[object, ...]:
    """As the graphs take their inputs: two, then a row of others."""
    return (*axes[:2], tuple(axes[2:])) if len(axes) > 2 else tuple(axes)
