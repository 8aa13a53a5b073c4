"""The choice of attention on a real card: what is timed, that what is chosen is right, and that it can be recorded."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from support import card
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines import sdpa
from engines.compiled import fastest

pytestmark = card.MARKS
KINDS = [(4096, 4096, 64), (1024, 77, 64), (256, 256, 40), (64, 77, 160)]
"""Lengths of queries and of keys, and d: of SD-Turbo, and of SD 1.5, whose d are not all multiples of 64."""
DTYPE = torch.float16 if card.REAL else torch.float32


def attention(pixels, tokens, d):
    return sdpa.Attention((1, 5, pixels, d), (1, 5, tokens, d), DTYPE, card.CARD)


@pytest.mark.skipif(not card.REAL, reason="there is nothing to time")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel_is_timed_or_says_that_it_can_not(kind):
    order, why = sdpa.order({attention(*kind): 1}, sdpa.timed)
    assert set(order) == {*sdpa.KERNELS.values(), SDPBackend.MATH}
    assert "none can do it" not in why
    print(f"\n{kind}: {why}")


def test_a_denoisers_order_is_found():
    cost = sdpa.timed if card.REAL else (lambda kernel, each: float(each.query[2]))
    order = fastest(card.nets(DTYPE), cost)
    assert set(order) == {*sdpa.KERNELS.values(), SDPBackend.MATH}


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS if card.REAL else KINDS[1:])
def test_any_order_gives_the_same_and_can_be_recorded(kind):
    each, machine = attention(*kind), card.machine()
    generator = torch.Generator().manual_seed(1)
    query, key, value = (
        torch.randn(shape, generator=generator).to(card.CARD, DTYPE) for shape in (each.query, each.key, each.key)
    )
    want = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    for kernel in sdpa.KERNELS.values():
        stream, out = machine.stream(first=True), torch.zeros_like(query)
        card.wait()
        with sdpa_kernel(sdpa.first(kernel), set_priority=True):
            with machine.on(stream):
                F.scaled_dot_product_attention(query, key, value)
            graph = machine.graph(machine.pool())
            with machine.on(stream), graph.record():
                out.copy_(F.scaled_dot_product_attention(query, key, value))
        with machine.on(stream):
            graph.play()
        stream.mark().wait()
        assert (out.float() - want).abs().max() <= 5e-3, kernel


@pytest.mark.skipif(not card.REAL, reason="there is nothing to time")
def test_while_it_is_timed_others_may_attend_to_what_one_kernel_can_not():
    """A text encoder's mask, in another thread: torch's choice of kernels is one for the whole process."""
    failed, over = [], threading.Event()

    def encodes():
        query, mask = torch.ones(1, 8, 77, 64, device=card.CARD), torch.ones(77, 77, dtype=torch.bool, device=card.CARD)
        try:
            while not over.is_set():
                F.scaled_dot_product_attention(query, query, query, mask).sum().item()
        except BaseException as error:
            failed.append(error)

    other = threading.Thread(target=encodes)
    other.start()
    sdpa.order({attention(*kind): 1 for kind in KINDS}, sdpa.timed)
    over.set()
    other.join()
    assert not failed
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.math_sdp_enabled()
