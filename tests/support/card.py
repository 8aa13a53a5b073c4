"""Where tests of a card run: on one; on none, unless LIVELATENT_CARD=emulated has a processor stand in, which shows
that the tests are in order."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from engines.base import Nets
from engines.machine import Machine
from engines.random_nets import random_control, random_nets

REAL = torch.cuda.is_available()
EMULATED = not REAL and os.environ.get("LIVELATENT_CARD") == "emulated"
CARD = torch.device("cuda" if REAL else "cpu")
MARKS = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (REAL or EMULATED), reason="no CUDA card"),
]
SIDE = 256 if REAL else 64
FEW = 1 if REAL else 10
"""On an emulation so many times fewer of what is counted in hundreds."""


def machine() -> Machine:
    """The card's, or what stands in for it."""
    if REAL:
        from engines.cuda_machine import CudaMachine

        return CudaMachine(CARD)
    from engines.emulated import EmulatedMachine

    return EmulatedMachine()


def wait() -> None:
    """Until the card is done with all that was asked of it."""
    if REAL:
        torch.cuda.synchronize(CARD)


def nets(dtype: torch.dtype = torch.float32) -> Nets:
    """Small random networks with two ControlNets, `a` and `b`."""
    made = random_nets("tiny", (SIDE, SIDE), CARD, dtype)
    return replace(made, controlnets={name: random_control(made, seed) for seed, name in enumerate("ab")})
