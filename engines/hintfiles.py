"""Networks that make hints, as files: which kind a file or folder is, judged before anything loads it. No torch here.

A depth model is a transformers folder, an edge detector a folder with one safetensors file in its public tensor layout,
a pose estimator a folder with two ONNX files.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from engines.errors import ModelError
from engines.header import read_header
from engines.modelrows import HintKind
from engines.weights import check_loose, list_files, read_json

DEPTH_CLASSES = frozenset({"DepthAnythingForDepthEstimation", "DPTForDepthEstimation"})
MAX_ONNX_BYTES = 2 << 30
"""What protobuf can hold."""
_REMOTE = ("backbone", "use_timm_backbone", "use_pretrained_backbone")
"""What makes transformers look for a backbone elsewhere."""
TELLING: dict[HintKind, str] = {"hed": "block1.projection.weight", "pidinet": "init_block.weight"}
"""A tensor that only this kind of edge detector has."""


def find_kind(path: Path) -> HintKind | None:
    """The kind of hint network in a file or folder, or None if it is something else."""
    if path.is_dir():
        if (path / "model_index.json").is_file():
            return None
        if (path / "config.json").is_file():
            names = read_json(path / "config.json", "config.json").get("architectures")
            return "depth" if isinstance(names, list) and DEPTH_CLASSES & set(map(str, names)) else None
        if len(networks(path)) == 2:
            return "pose"
        found = weights(path)
        path = found[0] if len(found) == 1 else path
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    return _edges(read_header(path.resolve(), path.name).keys())


def check_hint(folder: Path, kind: HintKind) -> None:
    """Judge the folder of a hint network of a kind. Raises ModelError with a sentence."""
    if kind == "depth":
        check_depth(folder)
    elif kind == "pose":
        pose_files(folder)
    else:
        edge_file(folder, kind)


def edge_file(folder: Path, kind: HintKind) -> Path:
    """The one file of an edge detector's folder. Raises ModelError with a sentence."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder")
    check_loose(folder)
    files = weights(folder)
    if len(files) != 1:
        raise ModelError(f"{folder.name} holds {len(files)} .safetensors files; an edge detector is one")
    if _edges(read_header(files[0].resolve(), files[0].name).keys()) != kind:
        raise ModelError(f"{files[0].name} does not hold {kind}'s weights: its tensors are others")
    return files[0]


def pose_files(folder: Path) -> list[Path]:
    """The two networks of a pose estimator's folder. Raises ModelError with a sentence.

    An ONNX file is a graph of known operations and their weights; what it asks for beyond itself is not there to find.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder")
    check_loose(folder)
    files = networks(folder)
    if len(files) != 2:
        raise ModelError(
            f"{folder.name} holds {len(files)} .onnx files; a pose estimator is a detector and a pose network"
        )
    for path in files:
        if not 16 <= path.stat().st_size <= MAX_ONNX_BYTES:
            raise ModelError(f"{path.name} has {path.stat().st_size} bytes: it is no network that we load")
    return files


def check_depth(folder: Path) -> str:
    """Judge a depth model's folder before transformers sees it; its class. Raises ModelError with a sentence."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder")
    check_loose(folder)
    files = list_files(folder)
    for needed in ("config.json", "model.safetensors"):
        if needed not in files:
            raise ModelError(f"{folder.name} has no {needed}: it is not a depth model in the transformers layout")
    config = read_json(files["config.json"], "config.json")
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and len(classes) == 1 else None
    if not isinstance(name, str) or name not in DEPTH_CLASSES:
        raise ModelError(f"{folder.name} is {ascii(classes)[:80]}, not {' or '.join(sorted(DEPTH_CLASSES))}")
    if any(config.get(key) for key in _REMOTE):
        raise ModelError(f"{folder.name} wants a backbone that is not in its folder")
    if config.get("depth_estimation_type", "relative") != "relative":
        raise ModelError(f"{folder.name} estimates metres; hints need a model of relative depth")
    return name


def networks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.onnx"))


def weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _edges(names: Set[str]) -> HintKind | None:
    plain = {name.removeprefix("module.") for name in names}
    return next((kind for kind, tensor in TELLING.items() if tensor in plain), None)
