"""Which of torch's attention kernels a card is fastest with, for the very attentions of one denoiser: measured when it
is loaded. What the fastest can't do the next one does."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

KERNELS: Mapping[str, SDPBackend] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
CAN: Mapping[SDPBackend, Callable[[Any], bool]] = {
    SDPBackend.FLASH_ATTENTION: torch.backends.cuda.can_use_flash_attention,
    SDPBackend.CUDNN_ATTENTION: torch.backends.cuda.can_use_cudnn_attention,
    SDPBackend.EFFICIENT_ATTENTION: torch.backends.cuda.can_use_efficient_attention,
}
TURNS = 9


class Attention(NamedTuple):
    """One attention's sizes: [B, heads, L, d] of the query, and of the keys and values."""

    query: tuple[int, ...]
    key: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class Seen(TorchFunctionMode):
    """Counts the attentions of what runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Attention] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            given = {**dict(zip(("query", "key"), args, strict=False)), **(kwargs or {})}
            query, key = given["query"], given["key"]
            self.found[Attention(tuple(query.shape), tuple(key.shape), query.dtype, query.device)] += 1
        return func(*args, **(kwargs or {}))


def first(kernel: SDPBackend) -> list[SDPBackend]:
    """All kernels, this one first. torch has one order for a whole process: whoever changes it leaves none out, since
    other threads attend meanwhile, to what this kernel may not be able to do."""
    return [kernel, *(other for other in KERNELS.values() if other is not kernel), SDPBackend.MATH]


def order(
    found: Mapping[Attention, int], cost: Callable[[SDPBackend, Attention], float]
) -> tuple[list[SDPBackend], str]:
    """Kernels, the fastest over all these attentions first, torch's plain products last; and why, a sentence.

    `cost`: milliseconds of one; RuntimeError for what a kernel can't do, which the plain products would have to.
    """
    sums: dict[str, float] = {}
    for name, kernel in KERNELS.items():
        try:
            sums[name] = sum(times * cost(kernel, each) for each, times in found.items())
        except RuntimeError:
            continue
    best = sorted(sums, key=sums.__getitem__)
    said = ", ".join(f"{name} {sums[name]:.2f}" for name in best) or "none can do it"
    rest = [name for name in KERNELS if name not in sums]
    return [*(KERNELS[name] for name in (*best, *rest)), SDPBackend.MATH], f"attention: {said} ms a step"


@torch.inference_mode()
def timed(kernel: SDPBackend, each: Attention) -> float:
    """Milliseconds on the card, the median of TURNS. Raises RuntimeError for what the kernel can't do."""
    # the process's own generator is refused while another thread records a frame
    generator = torch.Generator(each.device).manual_seed(1)
    query, key = (
        torch.randn(shape, dtype=each.dtype, device=each.device, generator=generator)
        for shape in (each.query, each.key)
    )
    if not CAN[kernel](torch.backends.cuda.SDPAParams(query, key, key, None, 0.0, False, False)):
        raise RuntimeError("this kernel can't do it")
    times = []
    with sdpa_kernel(first(kernel), set_priority=True):
        for _ in range(TURNS + 2):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            F.scaled_dot_product_attention(query, key, key)
            end.record()
            end.synchronize()
            times.append(float(begin.elapsed_time(end)))
    return statistics.median(times[2:])


@torch.inference_mode()
def attentions(run: Callable[[], Tensor]) -> Counter[Attention]:
    """Those of one call."""
    seen = Seen()
    with seen:
        run()
    return seen.found
