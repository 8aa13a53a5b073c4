"""A model's networks as ONNX files in which every number's type is fixed: what TensorRT builds strongly typed.

fp16 and bf16 are torch's own networks in that type. fp8 and int8 are fp16 networks whose layers round what they
multiply (engines.quantise), in steps that were measured on pictures here; only the denoiser's, where the time goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engines import calibrate, export
from engines.control import ControlLoader, residual_shapes
from engines.eager import Modules, load_modules, load_text, sentences
from engines.errors import ModelError
from engines.given import Ahead
from engines.graphs import Graph, codec_graphs, control_graphs, foreseen, unet_graph
from engines.quantise import Eight, quantise, written
from engines.tensorrt_order import AHEAD, BASE, Order, batched
from engines.weights import check_folder

OPSET = 20
"""The first that rounds fp16 to fp8, and early enough for every parser of TensorRT 10."""
CPU = torch.device("cpu")


class Kept(NamedTuple):
    """What computes ahead for a network, to be kept as it is: see engines.aheadfile."""

    facts: dict[str, Any]
    content: bytes


class Part(NamedTuple):
    """One network to be compiled."""

    name: str
    graph: Graph
    rows: tuple[str, ...]
    """Inputs with one row or two."""


def parts(order: Order, wanted: Collection[str]) -> Iterator[tuple[Part | Kept, dict[str, Any]]]:
    """Those networks of an order, each with what is to be known of it. Raises ModelError."""
    for (name, made), notes in _model(order, "unet" in wanted) if order.latent is None else _control(order):
        if name in wanted:
            yield made if isinstance(made, Kept) else Part(name, made, batched(name, made.inputs)), notes


def write(part: Part, out: Path) -> Path:
    """The network as a file, its large weights beside it."""
    module, inputs, outputs = part.graph
    doubled = {name: torch.cat([x, x]) if name in part.rows else x for name, x in inputs.items()}
    graph = Graph(module, doubled, outputs)
    return export.write(part.name, graph, out, free=False, opset=OPSET, batched=part.rows, table=written())


def refittable(part: Part, path: Path) -> dict[str, tuple[str, bool]]:
    """Which of the file's weights is which of the network's: name to path of a layer, and whether it was turned round,
    as the exporter does with those of linear layers. Weights that look alike are left out: who can tell them apart?"""
    import onnx
    from onnx import numpy_helper

    layers = {
        f"{path}.weight": module.weight
        for path, module in part.graph.module.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    }
    keys = {name: _key(weight) for name, weight in layers.items()}
    turned = {_key(weight.T): name for name, weight in layers.items() if weight.ndim == 2}
    alike = {key for key, count in Counter(keys.values()).items() if count > 1}
    found: dict[str, tuple[str, bool]] = {}
    for held in onnx.load(str(path)).graph.initializer:
        if held.name in layers and keys[held.name] not in alike:
            found[held.name] = held.name.removesuffix(".weight"), False
        elif held.name not in layers and len(held.dims) == 2:
            name = turned.get((tuple(held.dims), hash(numpy_helper.to_array(held).tobytes())), "")
            if name and keys[name] not in alike:
                found[held.name] = name.removesuffix(".weight"), True
    return {name: (path.removeprefix("net."), way) for name, (path, way) in found.items()}


def _key(weight: Tensor) -> tuple[tuple[int, ...], int]:
    """What it looks like: bf16 too, of which numpy knows nothing."""
    flat = weight.detach().contiguous().reshape(-1)
    return tuple(weight.shape), hash(flat.view(torch.uint8).numpy().tobytes())


def _kept(ahead: Ahead | None) -> Kept:
    from engines.aheadfile import pack

    return Kept(*pack(ahead))


def _model(order: Order, rounded: bool) -> Iterator[tuple[tuple[str, Graph | Kept], dict[str, Any]]]:
    variants, build = check_folder(order.folder).variants, order.build
    with sentences(order.folder), torch.inference_mode():
        found = load_modules(order.folder, build, variants, CPU, BASE[order.precision])
    notes = {
        "latent": found.latent,
        "guided": bool(found.unet.config.time_cond_proj_dim),
        "kind": found.kind,
        "residuals": residual_shapes(found.unet.config, found.latent),
    }
    with torch.inference_mode():
        ahead = foreseen(found)
    if rounded and order.precision in ("fp8", "int8"):
        _round(order, found, order.precision, ahead)
    codec = codec_graphs(found, (build.height, build.width))
    yield (AHEAD, _kept(ahead)), notes
    yield ("unet", unet_graph(found, order.specs, ahead)), notes
    for name, graph in codec.items():
        yield (name, graph), notes


def _control(order: Order) -> Iterator[tuple[tuple[str, Graph | Kept], dict[str, Any]]]:
    assert order.latent is not None
    base = BASE[order.precision]
    control = ControlLoader(order.latent, order.specs, tuple(order.residuals), CPU, base, foresees=True)(order.folder)
    yield (AHEAD, _kept(control.ahead)), {}
    for name, graph in control_graphs(control).items():
        yield (name, graph), {"channels": control.channels}


def _round(order: Order, found: Modules, kind: Eight, ahead: Ahead | None) -> None:
    """Measure the denoiser's layers on pictures, and have them round. Raises ModelError where there is nothing to."""
    text = load_text(order.folder, order.build, check_folder(order.folder).variants, CPU, BASE[order.precision])
    size = order.build.height, order.build.width
    ranges = calibrate.Calibration(found, order.specs, text, order.folder, size, ahead).measure()
    if not quantise(found.unet, kind, ranges):
        raise ModelError(f"no layer of {order.folder.name} is of a size that {kind} is computed in")
