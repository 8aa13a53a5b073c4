"""The guidance scale, as a denoiser reads it that was distilled to take it (latent consistency models)."""

from __future__ import annotations

import torch
from torch import Tensor


class GuidanceScale:
    """Sinusoids of the scale less one: Luo et al. 2023, section 4.2."""

    def __init__(self, width: int | None, dtype: torch.dtype, device: torch.device) -> None:
        """`width`: of what the network takes; None for one that takes none."""
        self._width, self._dtype = width, dtype
        self._frequencies = 1000.0 * torch.logspace(0, -4, (width or 0) // 2, dtype=torch.float32, device=device)

    def __call__(self, guidance: Tensor | None) -> Tensor | None:
        """0-dim or [1] to [1, width]; None where it is not asked or not told."""
        if not self._width or guidance is None:
            return None
        angles = (guidance - 1.0) * self._frequencies
        return torch.cat([angles.sin(), angles.cos()])[None].to(self._dtype)
