"""Attention by the kernel that was measured to be fastest: what is measured, and what follows from it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend

from engines import sdpa
from engines.base import Build
from engines.compiled import fastest
from engines.eager import EagerEngine

FLASH, CUDNN, EFFICIENT = sdpa.KERNELS.values()


@pytest.fixture
def nets(model_folder):
    return EagerEngine().load(model_folder(), Build(64, 64, device="cpu", dtype="fp32"))


def test_every_attention_of_a_step_is_measured_at_its_size(nets):
    asked = set()

    def cost(kernel, each):
        asked.add((each.query[2], each.key[2]))
        return {FLASH: 2.0, CUDNN: 1.0, EFFICIENT: 3.0}[kernel]

    assert fastest(nets, cost) == [CUDNN, FLASH, EFFICIENT, SDPBackend.MATH]
    length = nets.text.spec.outputs[0].shape[1]
    assert asked == {(16, 16), (16, length)}, "of pixels at 4 by 4 among themselves, and with the text"


def test_what_a_kernel_can_not_do_puts_it_behind_and_is_no_error():
    each = sdpa.Attention((1, 2, 16, 8), (1, 2, 77, 8), torch.float32, torch.device("cpu"))

    def cost(kernel, _):
        if kernel is not EFFICIENT:
            raise RuntimeError("no available kernel")
        return 1.0

    found, why = sdpa.order({each: 3}, cost)
    assert found == [EFFICIENT, FLASH, CUDNN, SDPBackend.MATH]
    assert why == "attention: efficient 3.00 ms a step"

    def never(kernel, _):
        raise RuntimeError("no available kernel")

    assert sdpa.order({each: 1}, never)[0] == [FLASH, CUDNN, EFFICIENT, SDPBackend.MATH]


@torch.inference_mode()
def test_an_order_is_kept_to_within_a_step_and_changes_no_picture(nets):
    x, cond = torch.randn(1, *nets.latent), [torch.randn(spec.shape) for spec in nets.text.spec.outputs]
    wanted = nets.unet(x, torch.tensor(9.0), cond)
    nets.unet.attention, seen = [SDPBackend.MATH], []
    nets.unet.net.mid_block.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.flash_sdp_enabled()))
    assert torch.allclose(nets.unet(x, torch.tensor(9.0), cond), wanted, atol=1e-5)
    assert seen == [False]
    assert torch.backends.cuda.flash_sdp_enabled()
