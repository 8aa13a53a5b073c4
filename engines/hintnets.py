"""Networks that make hints: depth, and edges. From this machine alone, safetensors alone.

Depth models are ordinary transformers folders (Depth Anything V2, MiDaS as DPT); edge detectors are single files in
their public tensor layout. All take fp32 [1, 3, H, W] in 0..1 and give fp32 [1, 1, H, W] in 0..1, without a host sync.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.base import DeviceName, DTypeName
from engines.device import choose_device, choose_dtype
from engines.edgenets import Hed, PiDiNet
from engines.errors import ModelError
from engines.weights import check_file, check_loose, list_files, read_json

DEPTH_CLASSES = frozenset({"DepthAnythingForDepthEstimation", "DPTForDepthEstimation"})
EDGE_NETS: Mapping[str, Callable[[Mapping[str, Tensor]], nn.Module]] = {"hed": Hed.of, "pidinet": PiDiNet.of}
_REMOTE = ("backbone", "use_timm_backbone", "use_pretrained_backbone")
"""What makes transformers look for a backbone elsewhere."""


class EdgeNet:
    """HED or PiDiNet, at the picture's own size."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        self._net, self._dtype = net, dtype

    def __call__(self, image: Tensor, /) -> Tensor:
        """Edges, white on black."""
        return self._net(image.to(self._dtype)).float()  # type: ignore[no-any-return]


class DepthNet:
    """Relative depth, stretched to 0..1 in every frame: near is white."""

    def __init__(self, net: Any, side: int, multiple: int, square: bool, mean: Tensor, spread: Tensor) -> None:
        """side: the shorter side that the network sees. mean, spread: [1, 3, 1, 1], of its training pictures."""
        self._net, self.side, self._multiple, self._square = net, side, multiple, square
        self._mean, self._spread = mean, spread

    def __call__(self, image: Tensor, /) -> Tensor:
        """Inverse depth from 0, the farthest, to 1, the nearest point of this picture."""
        size = image.shape[2:]
        seen = F.interpolate(image, self.inner(*size), mode="bicubic", antialias=True)
        seen = ((seen - self._mean) / self._spread).to(self._net.dtype)
        depth = self._net(seen).predicted_depth.float()[:, None]
        depth = F.interpolate(depth, size, mode="bilinear")
        least, most = depth.amin(), depth.amax()
        return (depth - least) / (most - least).clamp(min=1e-6)

    def inner(self, height: int, width: int) -> tuple[int, int]:
        """The size that the network sees a picture of this size at. DPT takes its patches for a square."""
        if self._square:
            height = width = 1
        scale = self.side / min(height, width) / self._multiple
        return tuple(max(1, round(n * scale)) * self._multiple for n in (height, width))  # type: ignore[return-value]


@torch.inference_mode()
def load_edges(kind: str, path: Path, device: DeviceName = "auto", dtype: DTypeName = "auto") -> EdgeNet:
    """`hed` or `pidinet` from one safetensors file. Raises ModelError with a sentence.

    Layouts: ControlNetHED (norm, block1.convs.0.weight ...) and PiDiNet's table5 (init_block.weight, block1_1 ...).
    """
    from safetensors.torch import load_file

    if kind not in EDGE_NETS:
        raise ModelError(f"{kind!a} is no edge detector that we know: {', '.join(sorted(EDGE_NETS))}")
    check_file(path)
    place = choose_device(device)
    number = choose_dtype(dtype, place)
    try:
        net = EDGE_NETS[kind](load_file(path))
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path.name} does not hold {kind}'s weights: {_first(error)}") from error
    return EdgeNet(_place(net, place, number), number)


@torch.inference_mode()
def load_depth(folder: Path, device: DeviceName = "auto", dtype: DTypeName = "auto", side: int = 0) -> DepthNet:
    """The depth model in a transformers folder. side: 0 for the size it was trained at. Raises ModelError."""
    name = check_depth(folder)
    config = read_json(folder / "config.json", "config.json")
    place = choose_device(device)
    number = choose_dtype(dtype, place)
    try:
        net: Any = _depth_class(name).from_pretrained(
            folder, dtype=number, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        given, multiple, mean, spread = _habits(folder, config)
        return DepthNet(
            _place(net, place, number),
            side or given,
            multiple,
            name == "DPTForDepthEstimation",
            torch.tensor(mean, device=place).view(1, 3, 1, 1),
            torch.tensor(spread, device=place).view(1, 3, 1, 1),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder.name} can't be loaded: {_first(error)}") from error


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


def _depth_class(name: str) -> Any:
    from transformers.utils import logging

    logging.disable_progress_bar()
    if name == "DPTForDepthEstimation":
        from transformers.models.dpt.modeling_dpt import DPTForDepthEstimation

        return DPTForDepthEstimation
    from transformers.models.depth_anything.modeling_depth_anything import DepthAnythingForDepthEstimation

    return DepthAnythingForDepthEstimation


def _habits(folder: Path, config: Mapping[str, Any]) -> tuple[int, int, list[float], list[float]]:
    """(side, multiple, mean, standard deviation) of the pictures that the network was trained with."""
    path = folder / "preprocessor_config.json"
    given = read_json(path, path.name) if path.is_file() else {}
    inner = config.get("backbone_config") or config
    size = given.get("size") or {}
    side = size.get("height") or size.get("shortest_edge") or inner.get("image_size") or 384
    patch = config.get("patch_size") or inner.get("patch_size") or 16
    multiple = max(int(given.get("ensure_multiple_of") or 1), int(patch))
    default = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    mean, spread = (given.get(key) or usual for key, usual in zip(("image_mean", "image_std"), default, strict=True))
    return int(side), multiple, [float(v) for v in mean], [float(v) for v in spread]


def _place(net: Any, device: torch.device, dtype: torch.dtype) -> Any:
    return net.eval().requires_grad_(False).to(device=device, dtype=dtype)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
