"""Where the codec's training starts: at principal components instead of at random.

Each stage of the encoder keeps the leading components of its 2 × 2 patches, and each stage of the decoder is the least
squares estimate of the encoder's features there, layer by layer from a few hundred pictures. Residual blocks begin as
identities, lifted so that their ReLU clips nothing. From random weights the same network needs thousands of steps to
get where this begins.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

_OPPONENT = ((0.57, 0.57, 0.57), (0.7, 0.0, -0.7), (-0.4, 0.8, -0.4))
"""Luma and two colour differences."""


def _zero(bias: Tensor | None) -> Tensor:
    """A bias set to nothing."""
    assert bias is not None
    return nn.init.zeros_(bias)


def _run(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(x)
    return out


def _calm(block: nn.Module, lift: Tensor | None) -> None:
    """Makes a residual block the identity; `lift` (channels,) is added so that nothing is negative."""
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    for conv in convs[:2]:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        _zero(conv.bias)
    nn.init.normal_(convs[2].weight, std=1e-3)
    bias = _zero(convs[2].bias)
    if lift is not None:
        bias.copy_(lift)


def _floor(x: Tensor) -> Tensor:
    """Per channel, what lifts all but one value in five hundred above zero."""
    flat = x.transpose(0, 1).flatten(1)
    return -torch.quantile(flat[:, :: max(1, flat.shape[1] // 50_000)], 0.002, dim=1) + 0.05


def _components(patches: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Leading directions (keep, features) of rows, and their deviations (keep,)."""
    centred = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh((centred.T @ centred).double() / len(centred))
    return vectors.flip(1)[:, :keep].T.float(), values.flip(0)[:keep].clamp_min(1e-8).sqrt().float()


def _stride(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Sets a stride-2 convolution to the components of 2 × 2 patches; answers its output."""
    channels, out = x.shape[1], conv.out_channels
    patches = F.unfold(x, 2, stride=2).transpose(1, 2).reshape(-1, 4 * channels)
    basis, _ = _components(patches, min(out, 4 * channels))
    nn.init.normal_(conv.weight, std=1e-3)
    conv.weight[: len(basis), :, 1:, 1:] = 0.7 * basis.reshape(-1, channels, 2, 2)
    return _run(conv, x)


def _fit(conv: nn.Conv2d, x: Tensor, wanted: Tensor) -> Tensor:
    """Sets a 3 × 3 convolution to the least squares estimate of `wanted`; answers its output."""
    rows = F.unfold(x, 3, padding=1).transpose(1, 2).reshape(-1, 9 * x.shape[1])
    if conv.bias is not None:
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
    goal = wanted.transpose(0, 1).flatten(1).T
    pick = torch.arange(0, len(rows), max(1, len(rows) // 60_000))
    a, b = rows[pick].double(), goal[pick].double()
    ridge = 1e-4 * len(a) * torch.eye(a.shape[1], dtype=torch.double)
    solved = torch.linalg.solve(a.T @ a + ridge, a.T @ b).T.float()
    nn.init.normal_(conv.weight, std=1e-3)
    size = 9 * x.shape[1]
    conv.weight[: wanted.shape[1]] = solved[:, :size].reshape(-1, x.shape[1], 3, 3)
    if conv.bias is not None:
        _zero(conv.bias)[: wanted.shape[1]] = solved[:, size]
    return _run(conv, x)


def _encoder(layers: nn.Sequential, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Features after every stage, finest first, and the latents."""
    first, last = layers[0], layers[-1]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    nn.init.normal_(first.weight, std=1e-3)
    _zero(first.bias)
    first.weight[:3, :, 1, 1] = torch.tensor(_OPPONENT)
    stages: list[Tensor] = []
    x, fresh = _run(first, x), True
    for layer in list(layers)[1:-1]:
        if isinstance(layer, nn.Conv2d):
            x, fresh = _stride(layer, x), True
            stages.append(x)
            continue
        _calm(layer, _floor(x) if fresh else None)
        x, fresh = layer(x), False
    flat = x.transpose(0, 1).flatten(1).T
    basis, deviation = _components(flat, min(last.out_channels, x.shape[1]))
    nn.init.normal_(last.weight, std=1e-3)
    last.weight[: len(basis), :, 1, 1] = basis / deviation[:, None].clamp_min(0.01)
    bias = _zero(last.bias)
    bias.copy_(-_run(last, x).mean((0, 2, 3)))
    return stages, _run(last, x)


def _decoder(layers: nn.Sequential, latents: Tensor, stages: list[Tensor], picture: Tensor) -> None:
    """`stages` finest first."""
    x = torch.tanh(latents / 3) * 3
    goals, fresh = list(stages), True
    convs = [m for m in layers if isinstance(m, nn.Conv2d)]
    for layer in layers:
        if layer is convs[-1]:
            _fit(layer, x, picture)
        elif layer is convs[-2]:
            x = _fit(layer, x, picture)
        elif isinstance(layer, nn.Conv2d):
            x, fresh = _fit(layer, x, goals.pop()[:, : layer.out_channels - 1]), True
            if layer.bias is not None:
                raised = _floor(x)
                layer.bias += raised
                x = x + raised[:, None, None]
        elif isinstance(layer, (nn.Upsample, nn.ReLU)):
            x = layer(x)
        else:
            lift = _floor(x) if fresh else None
            if lift is not None:
                lift[-1] = 1.0
            _calm(layer, lift)
            x, fresh = layer(x), False


@torch.no_grad()
def prepare(vae: AutoencoderTiny, pictures: Tensor) -> None:
    """Sets the codec's weights from `pictures`, (n, 3, h, w) in −1..1. Plain ReLU networks of diffusers' class only."""
    shown = pictures.add(1).div(2)
    stages, latents = _encoder(vae.encoder.layers, shown)
    _decoder(vae.decoder.layers, latents, stages, shown)
