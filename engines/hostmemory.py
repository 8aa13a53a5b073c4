"""Memory by its address."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor


def host_tensor(at: int, size: int) -> Tensor:
    """uint8 [size] over the host's memory from `at`; whoever asks sees to it that it stays there."""
    return torch.frombuffer((ctypes.c_uint8 * size).from_address(at), dtype=torch.uint8)


def mapped(at: int, size: int) -> bool:
    """Whether all of it is mapped, on Linux; elsewhere nobody says."""
    try:
        with open("/proc/self/maps", encoding="ascii", errors="replace") as lines:
            ranges = [tuple(int(end, 16) for end in line.split(" ", 1)[0].split("-")) for line in lines]
    except OSError:
        return True
    reached = at
    for begin, end in ranges:
        if begin <= reached < end:
            reached = end
    return reached >= at + size
