"""Levels of a ControlNet that can't act are left out, and what it gives stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engines.idle import leave_out
from tests.support.controlnets import write_controlnet


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request, model_folder, tmp_path_factory) -> Path:
    return write_controlnet(tmp_path_factory.mktemp("idle"), model_folder(request.param))


def load(folder: Path, dead: set[int]) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    net = ControlNetModel.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
    gates = [*net.controlnet_down_blocks, net.controlnet_mid_block]
    for i in dead:
        torch.nn.init.zeros_(gates[i].weight)
        torch.nn.init.zeros_(gates[i].bias)
    return net


def residuals(net: Any, side: tuple[int, int]) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    config = net.config
    x = torch.randn(2, config.in_channels, *side, generator=rng)
    cond = torch.randn(2, 5, config.cross_attention_dim, generator=rng)
    hint = torch.rand(2, 3, 8 * side[0], 8 * side[1], generator=rng)
    wide = config.projection_class_embeddings_input_dim
    more = None
    if config.addition_embed_type == "text_time":
        ids = torch.arange(12.0).reshape(2, 6)
        pooled = torch.randn(2, wide - 6 * config.addition_time_embed_dim, generator=rng)
        more = {"text_embeds": pooled, "time_ids": ids}
    down, middle = net(x, torch.tensor(500.0), cond, hint, added_cond_kwargs=more, return_dict=False)
    return [*down, middle]


def count(net: Any) -> int:
    return len([*net.controlnet_down_blocks, net.controlnet_mid_block])


@pytest.mark.parametrize("side", [(16, 16), (8, 24)])
@pytest.mark.parametrize("kept", [{0}, {0, 1}, {2}, {1, 3}, {0, -1}, set()])
def test_what_it_gives_stays_the_same(folder, kept, side):
    total = count(load(folder, set()))
    dead = set(range(total)) - {i % total for i in kept}
    net = load(folder, dead)
    before = residuals(net, side)
    assert leave_out(net) == len(dead)
    after = residuals(net, side)
    assert [x.shape for x in after] == [x.shape for x in before]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert [bool(x.any()) for x in after] == [i not in dead for i in range(total)]


def test_less_is_computed(folder):
    whole, part = load(folder, set()), load(folder, set(range(2, 50)) & set(range(count(load(folder, set())))))
    assert leave_out(whole) == 0
    leave_out(part)
    runs: dict[int, int] = {}
    for i, net in enumerate((whole, part)):
        runs[i] = 0

        def ran(*_: object, which: int = i) -> None:
            runs[which] += 1

        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(ran)
        residuals(net, (16, 16))
    assert runs[1] < 2 / 3 * runs[0]
