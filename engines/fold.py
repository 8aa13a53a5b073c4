"""The same picture from fewer multiplications: layers of an autoencoder that are linear together become one.

Exact but for the order of rounding, the border included. For graphs that are compiled once, and where a processor's
cores multiply: there a small decoder takes half the time. A graphics card is limited by other things, and its networks
stay as they were loaded. Where something nonlinear stands between two layers, nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fold_codec(vae: Any) -> None:
    """An AutoencoderTiny, in place; anything else stays as it is. Sums are made in fp32."""
    if type(vae).__name__ == "AutoencoderTiny":
        dtype = vae.dtype
        vae.float()
        vae.encoder.layers, vae.decoder.layers = fold(vae.encoder.layers), fold(vae.decoder.layers)
        vae.to(dtype=dtype, memory_format=torch.channels_last)


def fold(layers: nn.Sequential) -> nn.Sequential:
    """`layers` with what can be folded folded."""
    return nn.Sequential(*_folded(list(layers)))


def _folded(layers: list[nn.Module]) -> Iterator[nn.Module]:
    while layers:
        one, two, three = (*layers, None, None)[:3]
        if _doubles(one) and _plain(two, 1) and _plain(three, 1):
            yield Tail(one, two, three)
            del layers[:3]
        elif _doubles(one) and _plain(two, 1):
            yield Widen(two)
            del layers[:2]
        elif _plain(one, 1) and _plain(two, 2) and 4 * one.in_channels < one.out_channels:
            yield Head(one, two)
            del layers[:2]
        else:
            yield layers.pop(0)


def _doubles(layer: nn.Module | None) -> TypeGuard[nn.Upsample]:
    return isinstance(layer, nn.Upsample) and layer.mode == "nearest" and layer.scale_factor in (2, (2.0, 2.0))


def _plain(layer: nn.Module | None, stride: int) -> TypeGuard[nn.Conv2d]:
    """A convolution of 3 by 3 over all channels that keeps the size, or halves it."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (3, 3)
        and layer.padding == (1, 1)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.stride == (stride, stride)
    )


class Widen(nn.Module):
    """Doubling (nearest) and a convolution, as one transposed convolution of 4 by 4: 4 products a pixel, not 9."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        kernel = torch.zeros(conv.in_channels, conv.out_channels, 4, 4, dtype=conv.weight.dtype)
        for y in range(2):  # rows and columns of a doubled pixel
            for x in range(2):
                for i in range(3):
                    for j in range(3):
                        place = y - 2 * ((y + i - 1) // 2) + 1, x - 2 * ((x + j - 1) // 2) + 1
                        kernel[:, :, place[0], place[1]] += conv.weight[:, :, i, j].T
        self.kernel, self.bias = nn.Parameter(kernel, requires_grad=False), conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.kernel, self.bias, stride=2, padding=1)


class Tail(nn.Module):
    """Doubling and two convolutions, as one at the smaller size that gives each pixel's four at once.

    The outermost pixels see the zeros around what lies between the two: they are made as before, from thin strips.
    """

    def __init__(self, up: nn.Module, one: nn.Conv2d, two: nn.Conv2d) -> None:
        super().__init__()
        self.up, self.one, self.two = up, one, two
        both = _composed(one, two)
        kernel = torch.zeros(two.out_channels, 2, 2, one.in_channels, 3, 3, dtype=both.dtype)
        for y in range(2):
            for x in range(2):
                for i in range(5):
                    for j in range(5):
                        kernel[:, y, x, :, (y + i - 2) // 2 + 1, (x + j - 2) // 2 + 1] += both[:, :, i, j]
        self.kernel = nn.Parameter(kernel.flatten(0, 2), requires_grad=False)
        self.bias = nn.Parameter(_composed_bias(one, two).repeat_interleave(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_shuffle(F.conv2d(x, self.kernel, self.bias, padding=1), 2)
        top, bottom = self._slow(x[:, :, :2])[:, :, :1], self._slow(x[:, :, -2:])[:, :, -1:]
        left, right = self._slow(x[..., :2])[..., :1], self._slow(x[..., -2:])[..., -1:]
        y = torch.cat([top, y[:, :, 1:-1], bottom], 2)
        return torch.cat([left, y[..., 1:-1], right], 3)

    def _slow(self, x: Tensor) -> Tensor:
        return self.two(self.one(self.up(x)))  # type: ignore[no-any-return]


class Head(nn.Module):
    """Two convolutions, the second halving, as one of 5 by 5 over the few channels that come in.

    The uppermost row and the first column see the zeros around what lies between the two, as in `Tail`.
    """

    def __init__(self, one: nn.Conv2d, two: nn.Conv2d) -> None:
        super().__init__()
        self.one, self.two = one, two
        self.kernel = nn.Parameter(_composed(one, two), requires_grad=False)
        self.bias = nn.Parameter(_composed_bias(one, two), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.kernel, self.bias, stride=2, padding=2)
        top, left = self._slow(x[:, :, :4])[:, :, :1], self._slow(x[..., :4])[..., :1]
        return torch.cat([left, torch.cat([top, y[:, :, 1:]], 2)[..., 1:]], 3)

    def _slow(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))  # type: ignore[no-any-return]


def _composed(one: nn.Conv2d, two: nn.Conv2d) -> Tensor:
    """[out, in, 5, 5]: `two` after `one`, the second's stride aside."""
    kernel = torch.zeros(two.out_channels, one.in_channels, 5, 5, dtype=one.weight.dtype)
    for i in range(3):
        for j in range(3):
            kernel[:, :, i : i + 3, j : j + 3] += torch.einsum("om,mcij->ocij", two.weight[:, :, i, j], one.weight)
    return kernel


def _composed_bias(one: nn.Conv2d, two: nn.Conv2d) -> Tensor:
    bias = torch.zeros(two.out_channels, dtype=one.weight.dtype) if two.bias is None else two.bias
    return bias if one.bias is None else bias + two.weight.sum((2, 3)) @ one.bias
