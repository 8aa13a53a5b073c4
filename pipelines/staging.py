"""Where pixels wait for a card: on the host until it fetches them, on the card until the frame before is through."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engines.machine import Event, Machine
from pipelines.spec import Overtaken
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


class Landing:
    """Two places on the device in turn, that the host's pixels are fetched into as soon as they are there.

    A ring's slot is read while its writer may come round to it: so it is read at once, whatever the frames before are
    at, and what came of it is used when it is known that nobody wrote meanwhile.
    """

    def __init__(self, machine: Machine, device: torch.device) -> None:
        self._machine, self._device, self._stream = machine, device, machine.stream(first=True)
        self._places: list[tuple[Tensor, Event | None]] = []
        """The one to use next first, each with when it has been used."""

    def fetch(self, host: Tensor, whole: Callable[[], bool]) -> tuple[Tensor, Event]:
        """A copy on the device of `host`, uint8 [h, w, c] that the device reads by itself, there after the event; the
        host waits for it. Raises Overtaken where `whole` denies it then."""
        if not self._places or self._places[0][0].shape != host.shape:
            for _, used in self._places:
                if used is not None:
                    used.wait()
            with self._machine.on(self._stream):
                empty = (torch.empty(host.shape, dtype=torch.uint8, device=self._device) for _ in range(2))
                self._places = [(each, None) for each in empty]
        place, used = self._places[0]
        if used is not None:
            self._stream.follow(used)
        with self._machine.on(self._stream):
            place.copy_(host, non_blocking=True)
        landed = self._stream.mark()
        landed.wait()
        if not whole():
            raise Overtaken
        return place, landed

    def used(self, event: Event) -> None:
        """What was fetched last has been used after `event`."""
        self._places = [*self._places[1:], (self._places[0][0], event)]
