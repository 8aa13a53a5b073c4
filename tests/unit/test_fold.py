"""Folding changes how many products a picture takes, never the picture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engines.fold import Head, Tail, Widen, fold


def seeded(layers: list[nn.Module]) -> nn.Sequential:
    generator = torch.Generator().manual_seed(3)
    for layer in layers:
        for weight in layer.parameters():
            weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    return nn.Sequential(*layers).requires_grad_(False)


def conv(inside: int, outside: int, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, **{"padding": 1, **options})


def up() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="nearest")


@pytest.mark.parametrize(
    ("layers", "kinds"),
    [
        ([up(), conv(8, 8, bias=False), conv(8, 3)], [Tail]),
        ([up(), conv(8, 6)], [Widen]),
        ([conv(3, 16), conv(16, 12, stride=2, bias=False)], [Head]),
        ([conv(3, 8), nn.ReLU(), up(), conv(8, 8, bias=False), nn.ReLU(), up(), conv(8, 8), conv(8, 3)], None),
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
def test_a_folded_network_gives_the_same_picture_to_its_edges(layers, kinds, size):
    plain = seeded(layers)
    folded = fold(plain)
    if kinds:
        assert [type(layer) for layer in folded] == kinds
    x = torch.randn(1, first(plain), *size, generator=torch.Generator().manual_seed(1))
    expected = plain(x)
    assert expected.std() > 0.1
    assert torch.allclose(folded(x), expected, atol=1e-4)


def first(layers: nn.Sequential) -> int:
    return next(layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize(
    "layers",
    [
        [conv(3, 16), nn.ReLU(), conv(16, 12, stride=2)],
        [nn.Upsample(scale_factor=2, mode="bilinear"), conv(8, 8)],
        [nn.Upsample(scale_factor=4, mode="nearest"), conv(8, 8)],
        [up(), conv(8, 8, padding=0)],
        [up(), conv(8, 8, groups=2)],
        [up(), conv(8, 8, padding_mode="reflect")],
        [conv(16, 16), conv(16, 16, stride=2)],
    ],
)
def test_what_can_not_be_folded_stays(layers):
    assert list(fold(nn.Sequential(*layers))) == layers
