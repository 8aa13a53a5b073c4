"""Memory of the host that a card reads and writes by itself: the rings' own, or a place to copy to on the way."""

from __future__ import annotations

import torch
from torch import Tensor

from engines.machine import Bytes, Event, Machine
from pipelines.transfer import Pixels


class Pinned:
    """One stream's."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._memories: list[tuple[Bytes, Tensor]] = []
        self._places: list[tuple[Tensor, Event | None]] = []
        """Where pixels are copied to, the one to use next first, and when the device has read them."""
        self._copied = False

    def add(self, memory: Bytes) -> None:
        """Pin `memory`, writable and contiguous; where that can't be, its pixels are copied."""
        if not any(memory.ctypes.data == known.ctypes.data for known, _ in self._memories) and self._machine.pin(
            memory
        ):
            self._memories.append((memory, torch.from_numpy(memory)))

    def find(self, pixels: Pixels) -> Tensor | None:
        """`pixels` as the tensor over pinned memory that they are; None for pixels anywhere else."""
        for memory, whole in self._memories:
            at = pixels.ctypes.data - memory.ctypes.data
            if 0 <= at <= memory.nbytes - pixels.nbytes and pixels.flags.c_contiguous:
                return whole[at : at + pixels.nbytes].view(pixels.shape)
        return None

    def read(self, pixels: Pixels) -> Tensor:
        """`pixels` where the device can read them. `reads` says when it has."""
        found = self.find(pixels)
        self._copied = found is None
        if found is not None:
            return found
        if not self._places or self._places[0][0].shape != pixels.shape:
            for _, read in self._places:
                if read is not None:
                    read.wait()
            self._places = [(self._machine.host(pixels.shape, torch.uint8), None) for _ in range(2)]
        host, read = self._places[0]
        if read is not None:
            read.wait()
        self._machine.claim(host)
        host.numpy()[...] = pixels
        return host

    def reads(self, event: Event) -> None:
        """The pixels that `read` gave last have been read after `event`."""
        if self._copied:
            self._places = [*self._places[1:], (self._places[0][0], event)]

    def close(self) -> None:
        for memory, _ in self._memories:
            self._machine.unpin(memory)
        self._memories.clear()
