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

from engines.base import DeviceName, DTypeName, HintNet
from engines.device import DTYPES, choose_device, choose_dtype
from engines.edgenets import Hed, PiDiNet
from engines.errors import ModelError, first_line
from engines.hintfiles import check_depth, edge_file
from engines.modelrows import HintKind
from engines.weights import check_file, read_json

EDGE_NETS: Mapping[str, Callable[[Mapping[str, Tensor]], nn.Module]] = {"hed": Hed.of, "pidinet": PiDiNet.of}


@torch.inference_mode()
def load_hint(kind: HintKind, folder: Path, device: torch.device, dtype: torch.dtype, size: tuple[int, int]) -> HintNet:
    """The network of a kind in a folder, run once at (height, width): finds out whether it works, and lets its kernels
    be chosen before a frame needs them. Raises ModelError with a sentence."""
    place: DeviceName = device.type  # type: ignore[assignment]  # streams run on these alone
    number = next(name for name, known in DTYPES.items() if known == dtype)
    net: HintNet
    if kind == "depth":
        net = load_depth(folder, place, number)
    else:
        net = load_edges(kind, edge_file(folder, kind), place, number)
    try:
        found = net(torch.linspace(0, 1, size[1], device=device).expand(1, 3, *size))
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ModelError(f"{folder.name} can't be run: {first_line(error, 300)}") from error
    if not bool(found.isfinite().all()):
        raise ModelError(f"{folder.name} gives numbers that are not finite, in {number}")
    return net


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
        raise ModelError(f"{path.name} does not hold {kind}'s weights: {first_line(error, 300)}") from error
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
        raise ModelError(f"{folder.name} can't be loaded: {first_line(error, 300)}") from error


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
