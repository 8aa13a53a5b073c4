"""Eight bits: a network's linear layers and convolutions between a rounding of what comes in and one of their weights.

Explicit quantisation, as TensorRT 11 and OpenVINO want it: where rounding happens stands in the graph (QuantizeLinear,
then DequantizeLinear; or FakeQuantize), with fixed scales that were measured on pictures. torch computes the same
rounding, so that what 8 bits do to a picture can be seen without a card that has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, library, nn

Eight = Literal["fp8", "int8"]
Layer = nn.Linear | nn.Conv2d
MOST = {"fp8": 448.0, "int8": 127.0}
"""The largest number of each kind; fp8 is e4m3."""
HALVED = 63.0
"""Instead of int8's for weights, where a bit is left free."""
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


class Range(NamedTuple):
    """What came into a layer."""

    low: float
    """0 or less."""
    high: float
    """0 or more."""

    @property
    def most(self) -> float:
        return max(-self.low, self.high)


class Rounded(nn.Module):
    """A linear layer or a convolution that computes on 8-bit numbers, as TensorRT does: steps on both sides of 0."""

    def __init__(self, layer: Layer, kind: Eight, came: Range) -> None:
        super().__init__()
        self.layer, self._op = layer, fp8 if kind == "fp8" else int8
        weight = layer.weight.detach().float().abs()
        peaks = weight.amax() if kind == "fp8" else weight.flatten(1).amax(1)
        small = 2.0**-14  # the smallest normal number of fp16, in which the scales are kept
        self.register_buffer("coming", torch.tensor(max(came.most / MOST[kind], small), dtype=layer.weight.dtype))
        self.register_buffer("own", (peaks / MOST[kind]).clamp(min=small).to(layer.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return _run(self.layer, self._op(x, self.coming), self._op(self.layer.weight, self.own), self.layer.bias)


class Asymmetric(nn.Module):
    """The same in fp32, by torch's own operations, which OpenVINO reads. All 256 steps lie where numbers come in: half
    the error behind SiLU, where little lies below 0."""

    def __init__(self, layer: Layer, came: Range, most: float) -> None:
        """`most`: in steps, the largest weight."""
        super().__init__()
        self.layer = layer
        peaks = layer.weight.detach().float().abs().flatten(1).amax(1)
        self.register_buffer("own", (peaks / most).clamp(min=torch.finfo(torch.float32).tiny))
        self.register_buffer("zeros", torch.zeros_like(peaks, dtype=torch.int32))
        self.register_buffer("correction", torch.zeros_like(peaks))
        """For each channel, what is added to the bias: rounding moves the average of what comes out."""
        self._step = (came.high - came.low) / 255
        self._zero = round(-came.low / self._step)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, self._step, self._zero, 0, 255)
        own, zeros = self.get_buffer("own"), self.get_buffer("zeros")
        weight = torch.fake_quantize_per_channel_affine(self.layer.weight, own, zeros, 0, -127, 127)
        correction = self.get_buffer("correction")
        return _run(self.layer, x, weight, correction if self.layer.bias is None else self.layer.bias + correction)


def _run(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation)
    return F.linear(x, weight, bias)


def quantise(net: nn.Module, kind: Eight, ranges: Mapping[str, Range]) -> int:
    """Replace what can be replaced in `net`, for which `ranges` has what came in by path. How many that are."""
    return _replace(net, ranges, lambda layer, came: Rounded(layer, kind, came))


def quantise_asymmetric(net: nn.Module, ranges: Mapping[str, Range]) -> int:
    """As `quantise` to int8, for OpenVINO on this processor."""
    most = MOST["int8"] if sums_exactly() else HALVED
    return _replace(net, ranges, lambda layer, came: Asymmetric(layer, came, most))


def sums_exactly() -> bool:
    """Whether this processor adds products of 8 bits in 32. x86 without VNNI adds pairs of them in 16, which overflow
    unless weights have 7."""
    # before torch 2.10 nobody can ask, and then it does not
    facts: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    sums = any(facts.get(name) for name in ("avx_vnni", "avx512_vnni", "amx_int8"))
    return sums or facts.get("architecture", "x86_64") != "x86_64"


def quantise_corrected(net: nn.Module, ranges: Mapping[str, Range], run: Callable[[], object]) -> int:
    """As `quantise_asymmetric`, and each layer gets its averages back (bias correction, Nagel et al. 2019), one after
    the other while they run: `run` runs `net` on what was measured, and is called twice."""
    wanted: dict[str, list[Tensor]] = {path: [] for path in ranges}

    def listen(path: str, _: nn.Module, out: Tensor) -> None:
        wanted[path].append(_averages(out))

    with _heard(net, ranges, listen):
        run()
    count = quantise_asymmetric(net, ranges)
    seen = dict.fromkeys(ranges, 0)

    def correct(path: str, layer: nn.Module, out: Tensor) -> Tensor | None:
        if not isinstance(layer, Asymmetric):
            return None
        wrong = wanted[path][seen[path]] - _averages(out)
        seen[path] += 1
        step = wrong / seen[path]  # in the end: the mean over all that was run
        layer.get_buffer("correction").add_(step)
        return out + (step[:, None, None] if out.ndim == 4 else step)

    with _heard(net, ranges, correct):
        run()
    return count


def _averages(out: Tensor) -> Tensor:
    """By channel: [B, C, h, w] or [..., C] to [C]."""
    channel = 1 if out.ndim == 4 else out.ndim - 1
    return out.detach().float().mean([n for n in range(out.ndim) if n != channel])


@contextmanager
def _heard(
    net: nn.Module, paths: Iterable[str], tell: Callable[[str, nn.Module, Tensor], Tensor | None]
) -> Iterator[None]:
    """Inside, `tell` hears what each of these layers says, and may say something else instead."""

    def heard(path: str) -> Callable[..., Tensor | None]:
        return lambda layer, given, out: tell(path, layer, out)

    hooks = [net.get_submodule(path).register_forward_hook(heard(path)) for path in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replace(net: nn.Module, ranges: Mapping[str, Range], made: Callable[[Any, Range], nn.Module]) -> int:
    count = 0
    for path, came in ranges.items():
        if not (math.isfinite(came.most) and came.most > 0.0):
            continue  # a layer that overflows as it is, or sees nothing, has no steps to be measured in
        parent, _, name = path.rpartition(".")
        owner = net.get_submodule(parent)
        layer = getattr(owner, name)
        if suits(path, layer):
            setattr(owner, name, made(layer, came))
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
def measured(net: nn.Module) -> Iterator[dict[str, Range]]:
    """Inside, every run of `net` counts; what came into each linear layer and convolution by path, in the order in
    which they ran first."""
    ranges: dict[str, Range] = {}

    def look(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def seen(_: nn.Module, given: tuple[Any, ...]) -> None:
            low, high = (float(end) for end in given[0].detach().aminmax())
            before = ranges.get(path, Range(0.0, 0.0))
            broken = math.isnan(low) or math.isnan(before.low)
            ranges[path] = Range(math.nan, math.nan) if broken else Range(min(low, before.low), max(high, before.high))

        return seen

    hooks = [
        layer.register_forward_pre_hook(look(path)) for path, layer in net.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]  # fmt: skip
    try:
        yield ranges
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
