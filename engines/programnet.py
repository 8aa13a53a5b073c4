"""A compiled program that takes one tensor and gives one, as a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from engines.base import NetSpec


class ProgramNet:
    """encode or decode. Implements engines.base.Net."""

    def __init__(self, program: Callable[..., Sequence[Tensor]], spec: NetSpec) -> None:
        self._program, self.spec = program, spec

    def __call__(self, x: Tensor, /) -> Tensor:
        return self._program(x)[0]
