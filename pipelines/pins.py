"""Shared memory that the card reads and writes by itself: pages of the rings, registered with its driver when they are
first used, and let go of before they are unmapped."""

from __future__ import annotations

from torch import Tensor

from engines.errors import first_line
from engines.machine import Machine
from pipelines.transfer import Pixels

PAGE = 4096


class Pins:
    """One stream's. Belongs to the frame's thread. After the first refusal it asks no more: whoever wants memory that
    the card reaches copies to some that is."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._known: dict[int, Tensor] = {}
        """By address."""
        self.failed = ""
        """Why the card does not reach the rings, a sentence, or nothing."""

    def find(self, pixels: Pixels) -> Tensor | None:
        """The same bytes as a tensor that the device reads and writes by itself, uint8 of the same shape; None where
        that can't be. They begin with a page, and are mapped to a page's end.

        Larger ones at the same place take it over: nobody may be at work on the smaller.
        """
        at, size = pixels.ctypes.data, pixels.nbytes
        if self.failed or at % PAGE or not size or not pixels.flags.c_contiguous:
            return None
        known = self._known.get(at)
        if known is None or known.numel() < size:
            known = self._pin(at, -(-size // PAGE) * PAGE)
        return known[:size].view(pixels.shape) if known is not None else None

    def close(self) -> None:
        """Let go of all of it: before it is unmapped, and when the device is done with it."""
        while self._known:
            self._machine.unpin(self._known.popitem()[1])

    def _pin(self, at: int, size: int) -> Tensor | None:
        if (old := self._known.pop(at, None)) is not None:
            self._machine.unpin(old)
        try:
            self._known[at] = self._machine.pin(at, size)
        except RuntimeError as error:
            self.failed = f"pictures are copied once more, as the card can't reach shared memory: {first_line(error)}"
        return self._known.get(at)
