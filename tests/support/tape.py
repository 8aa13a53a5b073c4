"""A stand-in for a CUDA graph: it records every operation of one frame with its arguments as they were, and plays them
again over the same addresses. What a graph can't hold it refuses, and what Python read stays as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

FORBIDDEN = {
    "item": "reads a number back to the host",
    "_local_scalar_dense": "reads a number back to the host",
    "is_nonzero": "reads a truth value back to the host",
    "equal": "reads a truth value back to the host",
    "nonzero": "has a shape that depends on data",
    "masked_select": "has a shape that depends on data",
    "_unique2": "has a shape that depends on data",
    "lift_fresh": "brings a Python number to the device",
}


class HostSync(Exception):
    """An operation that a graph can't hold."""


class Tape(TorchDispatchMode):
    """Records what runs inside the `with`, refuses what is forbidden, and plays it again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in FORBIDDEN:
            raise HostSync(f"{name} {FORBIDDEN[name]}")
        if name == "index" and any(t is not None and t.dtype is torch.bool for t in args[1]):
            raise HostSync("a mask as an index has a shape that depends on data")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def play(self) -> None:
        """The same operations on the same inputs' addresses; every result lands where it was the first time."""
        with torch.inference_mode():
            for func, args, kwargs, old in self.calls:
                _overwrite(old, func(*args, **kwargs))


def _overwrite(old: Any, new: Any) -> None:
    """A graph's memory is the graph's own: results go to the addresses of the capture."""
    if isinstance(old, torch.Tensor):
        if old.data_ptr() != new.data_ptr():
            old.copy_(new)
    elif isinstance(old, (tuple, list)):
        for a, b in zip(old, new, strict=True):
            _overwrite(a, b)


def tensors(past: object) -> list[torch.Tensor]:
    """All that a stream's state remembers, at any depth: what is painted twice must be painted from the same past."""
    if isinstance(past, torch.Tensor):
        return [past]
    if isinstance(past, dict):
        return [found for part in past.values() for found in tensors(part)]
    return [found for part in vars(past).values() for found in tensors(part)] if hasattr(past, "__dict__") else []
