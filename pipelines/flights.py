"""What is kept of frames under way on a card, and by what their graphs are known."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from engines.base import Nets
from engines.machine import Event
from pipelines.knobs import Knobs, Mode
from pipelines.preprocess.registry import CHOICES
from pipelines.recorded import Recorded


class Shown(NamedTuple):
    """The mode of the last frame, if more of it can be painted while something else is made ready."""

    mode: Mode
    recorded: Recorded | None
    """None for the input as it is, which needs no graph."""


class Flight(NamedTuple):
    """A frame that was begun."""

    host: Tensor
    numbers: Tensor
    done: Event
    spans: list[tuple[Event, Event]]
    """When each stage began and ended; none for a frame that was painted operation by operation."""
    held: tuple[object, ...] = ()
    """What may not be freed before it is done."""


def fetch_down(picture: Tensor, numbers: Tensor, host: Tensor, host_numbers: Tensor) -> None:
    host.copy_(picture, non_blocking=True)
    host_numbers.copy_(numbers, non_blocking=True)


def key_of(knobs: Knobs, nets: Nets, parts: tuple[object, ...]) -> tuple[object, ...]:
    return (knobs.mode, nets.described, *map(id, parts))


def parts_of(knobs: Knobs, nets: Nets) -> tuple[object, ...]:
    """What this mode's frame is made with that may be another object, at another address, the next time."""
    units = knobs.mode.units
    controls = [nets.controlnets[unit.net] for unit in units]
    hints = [nets.hintnets[needs] for unit in units if (needs := CHOICES[unit.preprocessor].needs)]
    own = [knobs.units.own[unit.number] for unit in units if unit.own]
    image = [knobs.image.rows] if knobs.mode.image is not None else []
    return (nets.unet, nets.encode, nets.decode, *controls, *hints, *own, *image)
