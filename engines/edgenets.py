"""Two small edge detectors, in the tensor layout that their public weights have.

HED (Xie & Tu 2015) as retrained for ControlNet, and PiDiNet (Su et al. 2021) with the carv4 configuration, dilation and
attention. How wide they are is read from the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DEPTHS = (2, 2, 3, 3, 3)
_LAYERS = (3, 4, 4, 4)
_AROUND = (3, 0, 1, 6, 4, 2, 7, 8, 5)
"""Each of the nine places of a 3x3 kernel to its neighbour, going round; the middle to itself."""
_OUTER, _INNER = (0, 2, 4, 10, 14, 20, 22, 24), (6, 7, 8, 11, 13, 16, 17, 18)
"""The ring of a 5x5 kernel that eight weights add, and the ring that they take away."""


class _HedStage(nn.Module):
    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(width if i else channels, width, 3, padding=1) for i in range(depth)))
        self.projection = nn.Conv2d(width, 1, 1)


class Hed(nn.Module):
    """RGB [1, 3, H, W] in 0..1 to edges [1, 1, H, W] in 0..1: the mean of five side outputs, as ControlNet uses it."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        before = (3, *widths[:-1])
        for i, (channels, width, depth) in enumerate(zip(before, widths, _DEPTHS, strict=True)):
            self.add_module(f"block{i + 1}", _HedStage(channels, width, depth))

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> Hed:
        """The network that `weights` fit. Raises KeyError or RuntimeError where they fit none."""
        net = cls(tuple(weights[f"block{i}.projection.weight"].shape[1] for i in range(1, 6)))
        net.load_state_dict(dict(weights))
        return net

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        x = image * 255 - self.norm
        total = torch.zeros_like(image[:, :1])
        for i in range(5):
            stage = self.get_submodule(f"block{i + 1}")
            x = F.max_pool2d(x, 2) if i else x
            for conv in stage.get_submodule("convs").children():
                x = F.relu(conv(x))
            total = total + F.interpolate(stage.get_submodule("projection")(x), size, mode="bilinear")
        return torch.sigmoid(total / 5)


class _PidiBlock(nn.Module):
    def __init__(self, channels: int, width: int, kernel: int, shrink: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.conv2 = nn.Conv2d(channels, width, 1, bias=False)
        if shrink:
            self.shortcut = nn.Conv2d(channels, width, 1)
        self.shrink = shrink

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 2) if self.shrink else x
        y = self.conv2(F.relu(self.conv1(x)))
        return y + (self.shortcut(x) if self.shrink else x)  # type: ignore[no-any-return]


class _Dilation(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1)
        for i, far in enumerate((5, 7, 9, 11)):
            self.add_module(f"conv2_{i + 1}", nn.Conv2d(width, width, 3, padding=far, dilation=far, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.relu(x))
        parts = [self.get_submodule(f"conv2_{i}")(x) for i in range(1, 5)]
        return parts[0] + parts[1] + parts[2] + parts[3]  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, channels: int, middle: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, middle, 1)
        self.conv2 = nn.Conv2d(middle, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(self.conv1(F.relu(x))))


class _Reduce(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)


class PiDiNet(nn.Module):
    """RGB [1, 3, H, W] in 0..1 to edges [1, 1, H, W] in 0..1.

    Fed as ControlNet's annotator feeds it: blue first, 0..1, no mean taken away.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.init_block = nn.Conv2d(3, width, 3, padding=1, bias=False)
        widths = (width, 2 * width, 4 * width, 4 * width)
        at, layer = width, 1
        for stage, out in enumerate(widths):
            for i in range(_LAYERS[stage]):
                kernel = 5 if layer % 4 == 2 else 3
                block = _PidiBlock(at, out, kernel, shrink=stage > 0 and i == 0)
                self.add_module(f"block{stage + 1}_{i + 1}", block)
                at, layer = out, layer + 1
        self.dilations = nn.ModuleList(_Dilation(out, dilation) for out in widths)
        self.attentions = nn.ModuleList(_Attention(dilation) for _ in widths)
        self.conv_reduces = nn.ModuleList(_Reduce(dilation) for _ in widths)
        self.classifier = nn.Conv2d(4, 1, 1)

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> PiDiNet:
        """The network that `weights` fit, as trained or as converted. Raises KeyError or RuntimeError if they fit none.

        Names may begin with `module.`, as a model trained on several GPUs is saved.
        """
        own = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
        net = cls(own["init_block.weight"].shape[0], own["dilations.0.conv1.weight"].shape[0])
        if own["block1_2.conv1.weight"].shape[-1] == 3:
            own = {name: _as_convolution(name, tensor) for name, tensor in own.items()}
        net.load_state_dict(own)
        return net

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        x = self.init_block(image.flip(1))
        sides = []
        for stage in range(4):
            for i in range(_LAYERS[stage]):
                x = self.get_submodule(f"block{stage + 1}_{i + 1}")(x)
            side = self.attentions[stage](self.dilations[stage](x))
            side = self.conv_reduces[stage].get_submodule("conv")(side)
            sides.append(F.interpolate(side, size, mode="bilinear"))
        return torch.sigmoid(self.classifier(torch.cat(sides, 1)))


def _as_convolution(name: str, kernel: Tensor) -> Tensor:
    """A pixel difference convolution's kernel as the ordinary one that gives the same (Su et al. 2021, section 3)."""
    layer = _layer(name)
    if layer is None:
        return kernel
    kind = ("central", "angular", "radial", "plain")[layer % 4]
    flat = kernel.flatten(2)
    if kind == "central":
        flat = flat.clone()
        flat[:, :, 4] -= kernel.sum((2, 3))
    elif kind == "angular":
        flat = flat - flat[:, :, list(_AROUND)]
    elif kind == "radial":
        wide = kernel.new_zeros(*kernel.shape[:2], 25)
        ring = flat[:, :, 1:]
        wide[:, :, list(_OUTER)] = ring
        wide[:, :, list(_INNER)] = -ring
        return wide.view(*kernel.shape[:2], 5, 5)
    return flat.view_as(kernel)


def _layer(name: str) -> int | None:
    """Which of the sixteen pixel difference layers a tensor belongs to."""
    if name == "init_block.weight":
        return 0
    if not (name.startswith("block") and name.endswith(".conv1.weight")):
        return None
    stage, place = int(name[5]), int(name[7])
    return sum(_LAYERS[: stage - 1]) + place
