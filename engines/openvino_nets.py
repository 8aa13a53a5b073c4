"""Networks as OpenVINO runs them: a batch is one row after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engines.base import Finished, NetSpec
from engines.given import Ahead, Around, Blend, Deep, ImagePrompt, Known

if TYPE_CHECKING:
    from engines.openvino import Program


class OpenvinoEncode:
    """Implements engines.base.Net."""

    def __init__(self, program: Program, of_bytes: Program | None, spec: NetSpec) -> None:
        """`of_bytes`: the same with bytes for numbers."""
        self._program, self._of_bytes, self.spec = program, of_bytes, spec
        self.takes_bytes = of_bytes is not None

    def __call__(self, x: Tensor, /) -> Tensor:
        if x.dtype is not torch.uint8:
            return self._program(x)[0]
        assert self._of_bytes is not None, "this encoder takes numbers alone"
        return self._of_bytes(x)[0]


class OpenvinoDecode:
    """Implements engines.base.Net."""

    def __init__(self, program: Program, spec: NetSpec) -> None:
        self._program, self.spec = program, spec

    def __call__(self, x: Tensor, /) -> Tensor:
        found = self.finished(x)
        # Where a sum is infinite or none, this library's maximum makes numbers of it: nobody would see it any more.
        return found.image if found.good else torch.full_like(found.image, math.nan)

    def finished(self, x: Tensor, /) -> Finished:
        """Bytes and check come out of the network with the picture, made by all cores while it lies in their caches."""
        image, levels, total = self._program(x)
        return Finished(image, levels.squeeze(0), math.isfinite(float(total)))


class OpenvinoUNet:
    """Implements engines.base.UNet."""

    blends = True

    def __init__(
        self, program: Program, spec: NetSpec, guided: bool, outer: Program | None = None, ahead: Ahead | None = None
    ) -> None:
        """`outer`: its outermost level alone. `ahead`: where it is compiled to be given what that computes."""
        self._program, self.spec, self._guided, self._outer = program, spec, guided, outer
        self.ahead = ahead
        self._off = torch.ones(1)
        one, none = torch.ones(1), torch.zeros(1)
        self._as_it_is = Blend(torch.zeros(spec.inputs[0].shape[1:])[None], one, none, none, none, one)

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
        blend: Blend | None = None,
    ) -> Tensor:
        assert image is None, "pictures as prompts are the eager engine's: this one loads no adapters"
        if self.ahead is not None:
            told = _told(known or self.ahead(t, cond, guidance))
        else:
            told = [t, *cond, *((self._off if guidance is None else guidance,) if self._guided else ())]
        sums = list(blend or self._as_it_is)
        if x.shape[0] == 1:
            return self._row(x, sums + told, list(residuals), deep, 0)
        assert blend is None, "only one row is blended"
        return torch.cat(
            [self._row(x[i : i + 1], sums + _row(told, i), _row(residuals, i), deep, i) for i in range(x.shape[0])]
        )

    def _row(self, x: Tensor, told: list[Tensor], residuals: list[Tensor], deep: Deep | None, i: int) -> Tensor:
        """Row `i` of a batch."""
        if deep is None:
            return self._program(x, *told, *residuals)[0]
        kept = deep.kept[i : i + 1]
        if deep.fresh:
            out, state = self._program(x, *told, *residuals)
            kept.copy_(state)
            return out
        assert self._outer is not None, "a frame asks for the outermost level of a denoiser that has none"
        return self._outer(x, *told, kept, *residuals)[0]


class OpenvinoWindowUNet(OpenvinoUNet):
    """The same for parts of pictures, or for whole ones that leave behind what their parts need; without residuals."""

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
        blend: Blend | None = None,
        around: Around | None = None,
    ) -> Tensor:
        assert around is not None, "a window is painted in the light of the whole"
        assert deep is None, "windows know nothing of levels that are kept"
        assert not residuals, "nor of control units"
        self._around = around
        return super().__call__(x, t, cond, guidance, (), image, None, known, blend)

    def _row(self, x: Tensor, told: list[Tensor], residuals: list[Tensor], deep: Deep | None, i: int) -> Tensor:
        kept = self._around.kept[i : i + 1]
        if not self._around.fresh:
            return self._program(x, *told, kept)[0]
        out, found = self._program(x, *told)
        kept.copy_(found)
        return out


class OpenvinoControlNet:
    """Implements engines.base.ControlNet."""

    def __init__(
        self, programs: Mapping[str, Program], spec: NetSpec, channels: int, ahead: Ahead | None = None
    ) -> None:
        """`programs`: `embed`, `control`, and `shallow` where the denoiser has an outermost level. `ahead`: as the
        denoiser's."""
        self._embed, self._whole = programs["embed"], programs["control"]
        self._shallow = programs.get("shallow", self._whole)
        self.spec, self.channels, self.ahead = spec, channels, ahead

    def embed(self, hint: Tensor) -> Tensor:
        return self._embed(hint)[0]

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        hint: Tensor,
        outer: bool = False,
        known: Known | None = None,
    ) -> tuple[Tensor, ...]:
        told = [t, *cond] if self.ahead is None else _told(known or self.ahead(t, cond))
        program = self._shallow if outer else self._whole
        rows = [program(x[i : i + 1], *_row(told, i), hint) for i in range(x.shape[0])]
        return tuple(rows[0]) if len(rows) == 1 else tuple(map(torch.cat, zip(*rows, strict=True)))


def _told(known: Known) -> list[Tensor]:
    """As the graphs take it."""
    return [known.time, *(part for parts in known.text for part in parts)]


def _row(tensors: Sequence[Tensor], i: int) -> list[Tensor]:
    return [tensor[i : i + 1] if tensor.ndim and tensor.shape[0] > 1 else tensor for tensor in tensors]
