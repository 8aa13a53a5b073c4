"""Eight bits: a network's linear layers and convolutions between a rounding of what comes in and one of their weights.

Explicit quantisation, as TensorRT 11 wants it: where rounding happens stands in the graph (QuantizeLinear, then
DequantizeLinear), with fixed scales that were measured on pictures. torch computes the same rounding, so that what
8 bits do to a picture can be seen without a card that has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, library, nn

Eight = Literal["fp8", "int8"]
MOST = {"fp8": 448.0, "int8": 127.0}
"""The largest number of each kind; fp8 is e4m3."""
STEP = 16
"""Layers whose channels are no multiples of this have no 8-bit kernels."""
_AXIS = 0


@library.custom_op("livelatent::fp8", mutates_args=())
def fp8(x: Tensor, scale: Tensor) -> Tensor:
    """`x` rounded to fp8 (e4m3) in steps of `scale`, 0-dim; in x's own type."""
    rounded = (x.float() / scale.float()).clamp(-MOST["fp8"], MOST["fp8"]).to(torch.float8_e4m3fn)
    return (rounded.float() * scale.float()).to(x.dtype)


@library.custom_op("livelatent::int8", mutates_args=())
def int8(x: Tensor, scale: Tensor) -> Tensor:
    """`x` rounded to int8 in steps of `scale`, 0-dim or one for each of the first axis; in x's own type."""
    steps = scale.float().view(-1, *[1] * (x.ndim - 1)) if scale.ndim else scale.float()
    return ((x.float() / steps).round().clamp(-128, 127) * steps).to(x.dtype)


fp8.register_fake(lambda x, scale: torch.empty_like(x))
int8.register_fake(lambda x, scale: torch.empty_like(x))


class Rounded(nn.Module):
    """A linear layer or a convolution that computes on 8-bit numbers."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, kind: Eight, most: float) -> None:
        """`most`: the largest that comes in."""
        super().__init__()
        self.layer, self._op = layer, fp8 if kind == "fp8" else int8
        weight = layer.weight.detach().float().abs()
        peaks = weight.amax() if kind == "fp8" else weight.flatten(1).amax(1)
        small = 2.0**-14  # the smallest normal number of fp16, in which the scales are kept
        self.register_buffer("coming", torch.tensor(max(most / MOST[kind], small), dtype=layer.weight.dtype))
        self.register_buffer("own", (peaks / MOST[kind]).clamp(min=small).to(layer.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        x, weight = self._op(x, self.coming), self._op(self.layer.weight, self.own)
        if isinstance(self.layer, nn.Conv2d):
            return F.conv2d(x, weight, self.layer.bias, self.layer.stride, self.layer.padding, self.layer.dilation)
        return F.linear(x, weight, self.layer.bias)


def quantise(net: nn.Module, kind: Eight, peaks: Mapping[str, float]) -> int:
    """Replace what can be replaced in `net`, for which `peaks` has the largest input by path. How many that are."""
    count = 0
    for path, peak in peaks.items():
        if not math.isfinite(peak):
            continue  # a layer that overflows as it is has no steps to be measured in
        parent, _, name = path.rpartition(".")
        owner = net.get_submodule(parent)
        layer = getattr(owner, name)
        if suits(path, layer):
            setattr(owner, name, Rounded(layer, kind, peak))
            count += 1
    return count


def suits(path: str, layer: nn.Module) -> bool:
    """Whether a layer has 8-bit kernels and can take the rounding. The first and the last can't, nor what tells a
    network which time it is: they are small, and all that follows depends on them."""
    if path.partition(".")[0] in ("conv_in", "conv_out", "time_embedding", "add_embedding") or "time_emb" in path:
        return False
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.in_channels % STEP == 0 and layer.out_channels % STEP == 0
    return isinstance(layer, nn.Linear) and layer.in_features % STEP == 0 and layer.out_features % STEP == 0


@contextmanager
def measured(net: nn.Module) -> Iterator[dict[str, float]]:
    """Inside, every run of `net` counts; the largest input of each linear layer and convolution by path."""
    peaks: dict[str, float] = {}

    def look(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def seen(_: nn.Module, given: tuple[Any, ...]) -> None:
            peaks[path] = max(peaks.get(path, 0.0), float(given[0].detach().abs().max()))

        return seen

    hooks = [
        layer.register_forward_pre_hook(look(path)) for path, layer in net.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]  # fmt: skip
    try:
        yield peaks
    finally:
        for hook in hooks:
            hook.remove()


def written() -> dict[Callable[..., object], Callable[..., object]]:
    """How the exporter writes both roundings."""
    import onnx
    import onnxscript

    op: Any = onnxscript.opset20

    def as_fp8(x: Any, scale: Any) -> Any:
        zero = op.Constant(value=onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0]))
        return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero), scale, zero)

    def as_int8(x: Any, scale: Any) -> Any:
        shape = [int(n) for n in scale.shape]
        kind = onnx.TensorProto.INT8
        zero = op.Constant(value=onnx.helper.make_tensor("zero", kind, shape, [0] * math.prod(shape)))
        options = {"axis": _AXIS} if shape else {}
        return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero, **options), scale, zero, **options)

    return {torch.ops.livelatent.fp8.default: as_fp8, torch.ops.livelatent.int8.default: as_int8}
