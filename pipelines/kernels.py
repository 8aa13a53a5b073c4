"""Operations with a way of their own on a processor, which may look at numbers before it decides what to compute.

On a card that would be a host sync. To torch each is one operation: whoever records a frame, or counts what it does,
sees the same on both, and who reads and writes what stands in its schema.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

_library: Any = torch.library.Library("livelatent", "DEF")  # type: ignore[no-untyped-call]


def kernel(schema: str, everywhere: Callable[..., Any], processor: Callable[..., Any]) -> Callable[..., Any]:
    """The operation `livelatent::NAME(…)` of torch. `everywhere` is capturable; `processor` gives the same on a CPU."""

    @functools.wraps(processor)
    def alone(*args: Any) -> Any:
        with torch._C.DisableTorchFunction():  # one operation, even where bringing data to the host is refused
            return processor(*args)

    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, everywhere, "CompositeExplicitAutograd")
    _library.impl(name, alone, "CPU")
    found: Callable[..., Any] = getattr(torch.ops.livelatent, name).default
    return found
