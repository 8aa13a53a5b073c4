"""Our kernels on a real card against torch in fp32: shapes, types, layouts, and in a recorded graph."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from support import card
from torch import nn

from engines import groupnorm, kernels
from engines.compiled import compiled
from engines.groupnorm import normed
from pipelines import gate
from pipelines.ladder import DISTANCE, LIKENESS
from pipelines.params import Params
from pipelines.stream import DiffusionStream

pytestmark = [
    *card.MARKS,
    pytest.mark.skipif(card.REAL and bool(groupnorm.missing()), reason="Triton is not installed"),
]
STEPS = {torch.float16: 2**-10, torch.bfloat16: 2**-7, torch.float32: 2**-17}
"""One step of each type near 1; fp32's sums are in another order."""
SHAPES = [
    (1, 320, 64, 64),
    (2, 640, 32, 32),
    (1, 1280, 8, 8),
    (2, 96, 7, 5),
    (1, 64, 1, 1),
    (1, 32, 129, 3),
    (3, 8, 40, 24),
]
KINDS = [("", True), ("", False), ("shift", True), ("scale", True), ("both", True)]


def wanted(x, norm, act, shift, scale, after):
    x = x.float() + (shift.float()[:, :, None, None] if shift is not None else 0.0)
    y = F.group_norm(x, norm.num_groups, norm.weight.float(), norm.bias.float(), norm.eps)
    if scale is not None:
        y = y * (1.0 + scale.float()[:, :, None, None]) + after.float()[:, :, None, None]
    return F.silu(y) if act else y


@torch.inference_mode()
@pytest.mark.parametrize(("shape", "dtype"), list(itertools.product(SHAPES, STEPS)))
def test_every_kind_is_torchs(shape, dtype):
    generator = torch.Generator().manual_seed(sum(shape))
    count, channels = shape[:2]

    def drawn(*size):
        return torch.randn(size, generator=generator).to(card.CARD, dtype)

    norm = nn.GroupNorm(8, channels).to(card.CARD, dtype)
    norm.weight.copy_(drawn(channels)), norm.bias.copy_(drawn(channels))
    x = (3.0 * drawn(*shape) + 1.0).contiguous(memory_format=torch.channels_last)
    for kind, act in KINDS:
        shift = drawn(count, channels) if kind in ("shift", "both") else None
        scale, after = (drawn(1, channels), drawn(1, channels)) if kind in ("scale", "both") else (None, None)
        assert groupnorm.runs(x, norm) == card.REAL
        found, want = normed(x, norm, act, shift, scale, after), wanted(x, norm, act, shift, scale, after)
        assert found.dtype is dtype
        assert found.is_contiguous(memory_format=torch.channels_last)
        off = (found.float() - want).abs() / want.abs().clamp(min=1.0)
        assert off.max() <= STEPS[dtype] * (8 if kind else 4), (kind, act)


@torch.inference_mode()
def test_in_a_graph_they_see_other_numbers():
    machine = card.machine()
    norm = nn.GroupNorm(8, 64).to(card.CARD)
    stream = machine.stream(first=True)
    with machine.on(stream):
        x, shift = (torch.empty(size, device=card.CARD) for size in ((1, 64, 16, 16), (1, 64)))
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.zeros_like(x)
        x.fill_(1.0), shift.fill_(1.0)
        normed(x, norm, True, shift)  # which compiles them
    graph = machine.graph(machine.pool())
    with machine.on(stream), graph.record():
        out.copy_(normed(x, norm, True, shift))
    for seed in range(3):
        drawn = torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(seed))
        with machine.on(stream):
            x.copy_(drawn.to(card.CARD)), shift.fill_(float(seed))
            graph.play()
        stream.mark().wait()
        assert (out - wanted(x, norm, True, shift, None, None)).abs().max() <= 1e-4


def test_a_stream_with_them_paints_as_without(monkeypatch):
    if card.EMULATED:
        monkeypatch.setattr(kernels.groupnorm, "missing", lambda: "")
        monkeypatch.setattr(groupnorm, "runs", lambda x, norm: False)
    made = compiled(card.nets(torch.float16 if card.REAL else torch.float32), card.machine())
    pictures = []
    for nets in (made, kernels.with_kernels(made, "triton")):
        stream = DiffusionStream(nets, (card.SIDE, card.SIDE), Params())
        try:
            for _ in range(4):
                stream(torch.arange(80 * 100 * 3).reshape(80, 100, 3).to(torch.uint8).numpy(), Params())
            assert stream.painter.failed == ""
            assert stream.painter.records == 1
            pictures.append(stream.state.picture.float().cpu().clone())
        finally:
            stream.close()
    assert gate.likeness(*pictures) >= LIKENESS
    assert gate.distance(*pictures) <= DISTANCE
