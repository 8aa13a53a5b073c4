"""Group normalisation with what stands around it in a residual block: by our own kernels where they can run, else by
torch. `engines.kernels` puts it into networks."""

from __future__ import annotations

import functools
import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TYPES = (torch.float16, torch.bfloat16, torch.float32)


@functools.cache
def missing() -> str:
    """Why our kernels can't run here, a sentence; empty where they can. Triton comes with torch for NVIDIA's cards on
    Linux."""
    try:
        import engines.tritonnorm  # noqa: F401
    except ImportError as error:
        return f"triton is not installed ({error})"
    return ""


def normed(
    x: Tensor, norm: nn.GroupNorm, act: bool,
    shift: Tensor | None = None, scale: Tensor | None = None, after: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """act(norm(x + shift) * (1 + scale) + after), where act is SiLU or nothing. x [N, C, H, W], the others [N or 1, C],
    `scale` and `after` both or neither."""
    if runs(x, norm):
        from engines import tritonnorm

        return tritonnorm.run(x, norm.weight, norm.bias, norm.num_groups, norm.eps, act, shift, scale, after)
    if shift is not None:
        x = x + shift[:, :, None, None]
    x = norm(x) if type(norm) is nn.GroupNorm else nn.GroupNorm.forward(norm, x)
    if scale is not None and after is not None:
        x = x * (1 + scale[:, :, None, None]) + after[:, :, None, None]
    return F.silu(x) if act else x


def runs(x: Tensor, norm: nn.GroupNorm) -> bool:
    """Whether our kernels take it: on a card, or interpreted on a processor, where triton's own switch says so."""
    return (
        (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")
        and x.dtype in _TYPES
        and x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and norm.weight is not None
        and not missing()
    )


class Normed(nn.GroupNorm):
    """In place of a GroupNorm that nothing follows."""

    def forward(self, input: Tensor) -> Tensor:
        return normed(input, self, act=False)


class NormedSilu(nn.GroupNorm):
    """In place of a GroupNorm and the SiLU behind it."""

    def forward(self, input: Tensor) -> Tensor:
        return normed(input, self, act=True)
