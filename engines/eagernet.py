"""Networks of PyTorch as they are, behind the borders that all engines keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines.base import NetSpec
from engines.given import Ahead, Around, Deep, ImagePrompt, Known, Reads
from engines.guidancescale import GuidanceScale
from engines.levels import signed
from engines.outer import Ear, outer_of, outer_unet
from engines.surroundings import Held, surround

Floats = Callable[[Tensor], Tensor]


class EagerNet:
    """encode or decode: fp32 outside, the engine's precision inside. Implements engines.base.Net."""

    def __init__(self, run: Floats, dtype: torch.dtype, spec: NetSpec) -> None:
        self._run, self._dtype, self.spec = run, dtype, spec
        self.takes_bytes = spec.device.type == "cpu" and spec.inputs[0].name == "image"

    def __call__(self, x: Tensor, /) -> Tensor:
        x = signed(x, self._dtype) if x.dtype is torch.uint8 else x.to(self._dtype)
        return self._run(x).float()


class EagerUNet:
    """A UNet2DConditionModel. Implements engines.base.UNet; with `foresee`, takes what is known ahead."""

    def __init__(self, net: Any, dtype: torch.dtype, spec: NetSpec) -> None:
        self.net, self.dtype, self.spec = net, dtype, spec
        self.ahead: Ahead | None = None
        self.attention: Sequence[SDPBackend] = ()
        """torch's attention kernels, the best first; empty for torch's own order."""
        self.outer: Any = None
        """Its outermost level, over the same weights; None where it has none that can be told apart."""
        self.cut()
        self.held: Held | None = None
        """Of its normalisations, where they can be given what a whole picture's found."""
        self.nothing = torch.zeros((), dtype=dtype, device=spec.device)
        """What the outermost level gets for the middle block's residual."""
        self.guidance_dim: int | None = net.config.time_cond_proj_dim
        self._guidance = GuidanceScale(self.guidance_dim, dtype, spec.device)

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (),
        image: ImagePrompt | None = None,
        deep: Deep | None = None,
        known: Known | None = None,
        around: Around | None = None,
    ) -> Tensor:
        if around is not None:
            if not around.fresh:
                return self._within(around, x, t, cond, guidance, residuals, image, known)
            out, found = self.with_surroundings(x, t, cond, guidance, residuals, image, known)
            around.kept.copy_(found)
            return out
        if deep is None:
            return self._run(self.net, x, t, cond, guidance, residuals, image, known)
        if not deep.fresh:
            return self.from_deep(deep.kept, x, t, cond, guidance, residuals, image, known)
        out, state = self.with_deep(x, t, cond, guidance, residuals, image, known)
        deep.kept.copy_(state)
        return out

    def cut(self) -> None:
        """Make the outermost level of what `net` is now: again, where parts of that have been exchanged."""
        self.outer = outer_unet(self.net) if outer_of(self.net.config, (0, 0, 0)) else None

    def parts(self) -> list[Any]:
        """The networks that it calls."""
        return [net for net in (self.net, self.outer) if net is not None]

    def with_deep(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """As a call, and what the outermost level is handed on its way, [B, C, h, w]."""
        with Ear(self.net) as ear:
            out = self._run(self.net, *inputs)
        return out, ear.heard

    def with_surroundings(self, x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
        """As a call, and what its normalisations find, fp32 [B, numbers]."""
        assert self.held is not None, "its normalisations are not asked what they find"
        out = self._within(Around(x, True), x, *inputs)
        return out, self.held.take()

    def _within(self, around: Around, *inputs: Any) -> Tensor:
        assert self.held is not None, "a part is to be painted by a denoiser that knows of no whole"
        self.held.now = around
        try:
            return self._run(self.net, *inputs)
        finally:
            self.held.now = None

    def from_deep(
        self, state: Tensor, x: Tensor, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (), image: ImagePrompt | None = None, known: Known | None = None,
    ) -> Tensor:  # fmt: skip
        """As a call, by the outermost level alone, which is handed `state`."""
        self.outer.mid_block.state = state
        return self._run(
            self.outer, x, t, cond, guidance, (*residuals, self.nothing) if residuals else (), image, known
        )

    def _run(
        self, net: Any, x: Tensor, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (), image: ImagePrompt | None = None, known: Known | None = None,
    ) -> Tensor:  # fmt: skip
        if known is None and self.ahead is not None:
            known = self.ahead(t, cond, guidance)
        told = known.time if known is not None else self._guidance(guidance)
        reads = Reads(known.text if known is not None else (), image)
        added = {"text_embeds": cond[1], "time_ids": cond[2]} if len(cond) == 3 else None
        with sdpa_kernel(list(self.attention), set_priority=True) if self.attention else nullcontext():
            out = net(
                x.to(self.dtype),
                t,
                cond[0],
                timestep_cond=told,
                added_cond_kwargs=added,
                cross_attention_kwargs={"ip_hidden_states": reads} if any(reads) else None,
                down_block_additional_residuals=tuple(r.to(self.dtype) for r in residuals[:-1]) or None,
                mid_block_additional_residual=residuals[-1].to(self.dtype) if residuals else None,
                return_dict=False,
            )[0]
        return out.float()  # type: ignore[no-any-return]

    def surround(self) -> EagerUNet:
        """Have it paint parts of pictures, too."""
        self.held = surround(self.net)
        return self

    @property
    def numbers(self) -> int:
        """That its normalisations keep of a whole picture."""
        return self.held.numbers if self.held is not None else 0

    def foresee(self, version: Callable[[], int] = int) -> EagerUNet:
        """Have it take what is known ahead, where it is built so that it can. `version` changes with its weights."""
        from engines.ahead import foresee

        self.ahead = foresee(self.net, version, self._guidance)
        return self
