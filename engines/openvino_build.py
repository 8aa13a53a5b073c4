"""From a model's folder to compiled networks in the engine's cache. Slow, and done once.

`python -m engines.openvino_build` reads an Order as JSON from stdin and carries it out in a process of its own: what
OpenVINO's compiler does to a network it can't digest (it has ended processes) the show must not feel, nor the time
that tracing takes Python.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import torch

from engines import calibrate
from engines.base import Build, TensorSpec
from engines.blended import blended
from engines.cache import EngineCache
from engines.control import ControlLoader, residual_shapes
from engines.eager import Modules, load_modules, load_text, sentences
from engines.errors import ModelError
from engines.given import Ahead
from engines.graphs import (
    Graph,
    codec_graphs,
    control_graphs,
    deep_graphs,
    foreseen,
    part_graphs,
    pixel_graphs,
)
from engines.openvino_device import OpenvinoDevice, openvino
from engines.paths import ROOT
from engines.quantise import quantise_asymmetric, quantise_corrected, sums_exactly
from engines.weights import check_folder
from engines.window import grid_of

PATIENCE_S = 3600.0
NICE = 10
CPU = torch.device("cpu")
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
"""torch's names for what networks are computed in."""
DENOISERS = ("unet", "outer", "whole", "part")
PICTURES = ("image", "levels")
"""In numbers, and in bytes."""
Shape = tuple[int, int, int]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to compile."""

    folder: Path
    """A model's, or with `residuals` a ControlNet's."""
    build: Build
    names: dict[str, str]
    """Under which name in the cache each network goes."""
    cond: list[tuple[str, list[int]]]
    """What a prompt is: name and shape."""
    latent: Shape | None = None
    residuals: list[Shape] = []


def carry_out(order: Order, device: OpenvinoDevice, cache: EngineCache) -> None:
    """Compile and keep. Raises ModelError, and OSError where the cache can't be written."""
    with torch.inference_mode():
        graphs, ahead, notes = _control(order) if order.latent is not None else _model(order)
    if "ahead" in order.names:
        cache.put(order.names["ahead"], *_packed(ahead, device))
    del ahead
    for part in [part for part in graphs if part in order.names]:
        graph = graphs.pop(part)  # its torch weights go as soon as OpenVINO has its own
        precision = (
            "f32" if notes.get("wide") and device.precision == "f16" and part not in DENOISERS else device.precision
        )
        _keep(part, graph, precision, notes, order, device, cache)


def _model(order: Order) -> tuple[dict[str, Graph], Ahead | None, dict[str, Any]]:
    variants = check_folder(order.folder).variants
    with sentences(order.folder):
        found = load_modules(order.folder, order.build, variants, CPU, torch.float32)
    notes = {
        "latent": found.latent,
        "guided": bool(found.unet.config.time_cond_proj_dim),
        "kind": found.kind,
        "residuals": residual_shapes(found.unet.config, found.latent),
        "wide": bool(found.vae.config.get("force_upcast", False)),
        "grid": grid_of(found.unet.config, order.build.height // found.latent[1]),
    }
    ahead = foreseen(found)
    if order.build.dtype == "int8":
        _round_denoiser(order, found, ahead)
    windows = not order.names.keys().isdisjoint({"whole", "part"})
    made = (part_graphs if windows else deep_graphs)(found, _cond(order), ahead)
    if windows:
        notes["numbers"] = made["part"].inputs["surroundings"].shape[1]
    unet = {part: blended(graph) for part, graph in made.items()}
    size = order.build.height, order.build.width
    graphs = {**unet, **codec_graphs(found, size, folded=True), **pixel_graphs(found, size)}
    graphs["decode"] = graphs.pop("finish")
    if order.build.dtype == "int8" and order.build.vae == "tiny":  # a full one is left as it is
        quantise_corrected(found.vae, calibrate.codec(found, size), lambda: calibrate.both_ways(found, size))
    return {part: graph for part, graph in graphs.items() if part in order.names}, ahead, notes


def _round_denoiser(order: Order, found: Modules, ahead: Ahead | None) -> None:
    """Measure its layers on pictures, and have them round; with 7 bits for a weight its pictures would not do. Raises
    ModelError where there is nothing to round."""
    build = order.build
    if not sums_exactly():
        if build.vae != "tiny":
            raise ModelError("this processor has no VNNI: int8 is for the tiny autoencoder alone here")
        return
    text = load_text(order.folder, build, check_folder(order.folder).variants, CPU, torch.float32)
    samples = calibrate.Calibration(found, _cond(order), text, order.folder, (build.height, build.width), ahead)
    if not quantise_asymmetric(found.unet, samples.measure()):
        raise ModelError(f"no layer of {order.folder.name} is of a size that int8 is computed in")


def _control(order: Order) -> tuple[dict[str, Graph], Ahead | None, dict[str, Any]]:
    assert order.latent is not None
    loader = ControlLoader(order.latent, _cond(order), tuple(order.residuals), CPU, torch.float32, foresees=True)
    control = loader(order.folder)
    return control_graphs(control), control.ahead, {"channels": control.channels}


def _cond(order: Order) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, tuple(shape), torch.float32) for name, shape in order.cond)


def _packed(ahead: Ahead | None, device: OpenvinoDevice) -> tuple[dict[str, Any], bytes]:
    from engines.aheadfile import pack

    return pack(ahead, TYPES[device.precision])


def _keep(
    part: str, graph: Graph, precision: str, notes: dict[str, Any], order: Order, device: OpenvinoDevice,
    cache: EngineCache,
) -> None:  # fmt: skip
    try:
        blob = device.compile(_converted(graph), precision).export_model()
    except RuntimeError as error:
        first = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"OpenVINO can't compile the network {part}: {first[:200]}") from error
    content = blob if isinstance(blob, bytes) else blob.getbuffer()
    cache.put(order.names[part], {**notes, "inputs": list(graph.inputs), "outputs": list(graph.outputs)}, content)


def _converted(graph: Graph) -> Any:
    """The graph as an openvino.Model of fixed shapes. Pictures lie in memory as livelatent has them, channels last."""
    ov = openvino()
    examples = tuple(graph.inputs.values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of every branch; fixed shapes are what is wanted here
        model = ov.convert_model(graph.module, example_input=examples)
    model.reshape({port: list(example.shape) for port, example in zip(model.inputs, examples, strict=True)})
    layout = ov.preprocess.PrePostProcessor(model)
    for i, name in enumerate(graph.inputs):
        model.inputs[i].get_tensor().set_names({name})
        layout.input(i).tensor().set_element_type(ov.Type.u8 if name == "levels" else ov.Type.f32)
        if is_picture(name, examples[i].shape):
            layout.input(i).tensor().set_layout(ov.Layout("NHWC"))
            layout.input(i).model().set_layout(ov.Layout("NCHW"))
    for i, name in enumerate(graph.outputs):
        layout.output(i).tensor().set_element_type(ov.Type.u8 if name == "levels" else ov.Type.f32)
        if name in PICTURES:
            layout.output(i).model().set_layout(ov.Layout("NCHW"))
            layout.output(i).tensor().set_layout(ov.Layout("NHWC"))
    return layout.build()


def is_picture(name: str, shape: torch.Size | tuple[int, ...]) -> bool:
    """Whether an input is one whose memory is channels last."""
    return name in PICTURES or (name == "hint" and shape[1] == 3)


def send_out(order: Order) -> None:
    """Have it done by a process of its own, at low priority. Raises ModelError with what it said."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "engines.openvino_build"]
    job = msgspec.json.encode(order, enc_hook=str)
    try:
        done = subprocess.run(
            command, input=job, capture_output=True, timeout=PATIENCE_S, check=False,
            env={**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"OpenVINO's compiler could not be run: {str(error)[:200]}") from error
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise ModelError(
            said[:300] if done.returncode == 1 else f"OpenVINO's compiler ended its process ({done.returncode})"
        )


def main() -> int:
    """An Order from stdin; 0 when it is done, 1 with a sentence on stderr."""
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICE)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order, dec_hook=lambda kind, value: kind(value))
    try:
        carry_out(order, OpenvinoDevice(order.build), EngineCache("openvino"))
    except (ModelError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
