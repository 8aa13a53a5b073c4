"""Where pixels wait on the host for a card to fetch them."""

from __future__ import annotations

import torch
from torch import Tensor

from engines.machine import Event, Machine
from pipelines.transfer import Pixels


class Staging:
    """Two places in turn, so that one can be filled while the other is read."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._places: list[tuple[Tensor, Event | None]] = []
        """The one to use next first, each with when the device has read it."""

    def put(self, pixels: Pixels) -> Tensor:
        """A copy of `pixels` that the device can read by itself; `read` says when it has."""
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

    def read(self, event: Event) -> None:
        """What was put last has been read after `event`."""
        self._places = [*self._places[1:], (self._places[0][0], event)]
