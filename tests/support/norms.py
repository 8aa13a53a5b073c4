"""Normalisations of many kinds beside torch's own, in fp32. As a program, with TRITON_INTERPRET=1, our kernels are
interpreted on the processor: triton reads that switch when it is imported."""

from __future__ import annotations

import itertools
import sys

import torch
import torch.nn.functional as F

from engines import groupnorm
from engines.groupnorm import normed

SHAPES = [(1, 32, 8, 8, 8), (2, 80, 9, 13, 8), (1, 96, 4, 4, 32)]
"""N, C, H, W, groups: among them more than one piece, pieces that are not full, and channels that no power of 2 is."""
CLOSE = {torch.float32: 1e-5, torch.float16: 1 / 512, torch.bfloat16: 1 / 64}
"""Of the value: half of what the type can tell, and a bit."""
SIDES = ("none", "shift", "scale")


def right(x, norm, act, shift=None, scale=None, after=None):
    x = x.float() if shift is None else x.float() + shift.float()[:, :, None, None]
    y = F.group_norm(x, norm.num_groups, norm.weight.float(), norm.bias.float(), norm.eps)
    if scale is not None:
        y = y * (1 + scale.float()[:, :, None, None]) + after.float()[:, :, None, None]
    return F.silu(y) if act else y


@torch.inference_mode()
def check(ours: bool, loose: float = 1.0) -> int:
    """How many were compared. `ours`: whether it has to be by our kernels. `loose`: times CLOSE."""
    done = 0
    for dtype, (count, channels, height, width, groups), sides in itertools.product(CLOSE, SHAPES, SIDES):
        generator = torch.Generator().manual_seed(3)

        def noise(*shape, dtype=dtype, generator=generator):
            return torch.randn(shape, generator=generator).to(dtype)

        far = 30 * noise(1, channels, 1, 1)  # channels that stand far apart: a sum of squares would lose digits
        x = (2 * noise(count, channels, height, width) + far).contiguous(memory_format=torch.channels_last)
        norm = torch.nn.GroupNorm(groups, channels).to(dtype)
        norm.weight.copy_(noise(channels))
        norm.bias.copy_(noise(channels))
        given = {
            "none": {},
            "shift": {"shift": noise(1, channels)},
            "scale": {"scale": noise(count, channels), "after": noise(1, channels)},
        }[sides]
        assert groupnorm.runs(x, norm) == ours
        for act in (True, False):
            found, wanted = normed(x, norm, act, **given), right(x, norm, act, **given)
            assert found.dtype is dtype
            assert found.is_contiguous(memory_format=torch.channels_last)
            off = ((found.float() - wanted).abs() / (1 + wanted.abs())).max()
            assert off <= loose * CLOSE[dtype], (dtype, channels, sides, act, float(off))
            done += 1
    return done


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(f"{check(ours=True)} are alike\n")
