"""A frame: pixels, a number, and when it was captured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.spec import StreamSpec

Pixels = NDArray[np.uint8]

FORMATS = {1: "gray8", 3: "rgb8", 4: "rgba8"}
CHANNELS = {name: channels for channels, name in FORMATS.items()}
MAX_PIXELS = 16 * 1024 * 1024
"""Larger pictures are refused before they are decoded or copied (16 Mpx)."""
MAX_SIDE = 16_384


class Stamps(NamedTuple):
    """When a frame passed each station, in `clock.now_ns`; 0 where it has not been yet."""

    captured: int = 0
    fed: int = 0
    """Written to ring A by the bridge."""
    taken: int = 0
    """Read from ring A by the worker."""
    done: int = 0
    """Picture ready in the worker, just before ring B."""


class Made(NamedTuple):
    """What painted a picture."""

    epoch: int
    """Another number, another worker."""
    spec: StreamSpec
    acting: bytes
    """What took effect: `pipelines.acting.Acting` as msgpack; empty if the worker did not say."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture on its way. `pixels` is uint8, (height, width, 1 | 3 | 4), C-contiguous, top row first."""

    pixels: Pixels
    seq: int
    """Counts up from 0 per source; sinks get the same number back with the finished picture."""
    stamps: Stamps = field(default_factory=Stamps)
    media_ns: int = -1
    """Position in the medium (a movie's own time, growing across loops); -1 for a live source."""
    version: int = 0
    """Version of the Params that made this picture; 0 for a frame that no worker has seen."""
    made: Made | None = None
    """None for a frame that no worker of this bridge has painted."""
    moved: int = 0
    """A picture that was moved on for the display (bridge/display): capture stamp of the input whose motion it shows.
    All else is that of the painted picture. 0 for a picture as it was painted."""

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[2])

    @property
    def format(self) -> str:
        """`gray8`, `rgb8` or `rgba8`."""
        return FORMATS[self.channels]


def check_size(width: int, height: int, channels: int) -> str | None:
    """What is wrong with these dimensions, as a sentence; None if they are fine."""
    if channels not in FORMATS:
        return f"{channels} channels; a frame has 1 (gray8), 3 (rgb8) or 4 (rgba8)"
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return f"{width}x{height} is outside 1x1 to {MAX_SIDE}x{MAX_SIDE}"
    if width * height > MAX_PIXELS:
        return f"{width}x{height} is more than {MAX_PIXELS // 2**20} Mpx"
    return None
