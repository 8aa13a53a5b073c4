"""The source of a first run and of every test: a moving square at some time of day, drawn here, frame by frame.

It has what a filter can bite on: depth and parallax, perspective, shading and soft shadows, people and a face, solid
things, buildings, lettering that moves, fine texture, slow and fast motion, and a camera that travels.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from bridge.clock import NS, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import ConfigError
from bridge.frame import Frame, Pixels, Stamps
from bridge.sources.art.world import World
from bridge.sources.options import choice, fps, seconds, size, whole
from bridge.sources.ticks import Ticks

MIN_SIDE = 64
"""Smaller pictures are drawn at this size and scaled down."""
MAX_DRAWN = 1 << 30
"""Bytes of pictures that are drawn beforehand."""
_CHANNELS = {"rgb": 3, "rgba": 4, "gray": 1}
_FORMATS = {"rgba": cv2.COLOR_RGB2RGBA, "gray": cv2.COLOR_RGB2GRAY}


@lru_cache(maxsize=4)
def _world(width: int, height: int, seed: int) -> World:
    return World.build(width, height, seed)


def draw(t: float, width: int, height: int, seed: int = 0) -> Pixels:
    """The scene at second `t`, uint8 (height, width, 3) RGB. Depends on nothing but its arguments; thread-safe.

    The first call for a size and seed draws the still parts (some 70 ms at 512²); the last four of these are kept.
    `seed` modulo 4 is the time of day: dusk, day, night, dawn.
    """
    grow = max(1.0, MIN_SIDE / min(width, height))
    if grow == 1.0:
        return _world(width, height, seed).paint(t)
    big = _world(math.ceil(width * grow), math.ceil(height * grow), seed).paint(t)
    return np.ascontiguousarray(cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA))


class SceneSource:
    """`scene[?size=512x512&fps=30&seed=0&rate=clock|max&pixels=rgb|rgba|gray&drawn=0]`.

    Picture n shows second n / fps. Live, pictures whose moment has passed are left out; with rate=max, or when every
    frame is wanted, all are drawn, as fast as they are taken. With `drawn`, so many seconds are drawn when it opens
    and shown forth and back: networks on the same processor have it for themselves then.
    """

    def __init__(
        self,
        size: tuple[int, int] = (512, 512),
        fps: float = 30.0,
        seed: int = 0,
        rate: str = "clock",
        pixels: str = "rgb",
        drawn: float = 0.0,
        every_frame: bool = False,
    ) -> None:
        """Raises ConfigError where what is drawn beforehand would take more than MAX_DRAWN bytes."""
        self.width, self.height = size
        self.fps, self.seed, self.pixels = fps, seed, pixels
        self._ticks = Ticks(fps, free=rate == "max" or every_frame)
        self._own_time = every_frame
        self._drawn: list[Pixels] = []
        self._seconds, self._count = drawn, round(drawn * fps)
        if self._count * self.width * self.height * _CHANNELS[pixels] > MAX_DRAWN:
            raise ConfigError(f"scene?drawn={drawn:g} would take more than {MAX_DRAWN >> 20} MiB: draw fewer seconds")
        self._seq = 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> SceneSource:
        options = spec.take(
            size=size, fps=fps, seed=whole, rate=choice("clock", "max"), pixels=choice("rgb", "rgba", "gray"),
            drawn=seconds,
        )  # fmt: skip
        if spec.target:
            raise ConfigError(f"scene takes options only, for example scene?seed=2, not {spec.target!r}")
        params = context.config.params
        options.setdefault("size", (int(params.get("width", 512)), int(params.get("height", 512))))
        return cls(**options, every_frame=context.config.every_frame)

    def open(self) -> None:
        draw(0.0, self.width, self.height, self.seed)
        if len(self._drawn) < self._count:
            self._drawn = [self._draw(tick) for tick in range(self._count)]
        self._ticks.restart()

    def read(self, timeout: float) -> Frame | None:
        tick = self._ticks.wait(timeout)
        if tick is None:
            return None
        pixels = self._drawn[_to_and_fro(tick, self._count)] if self._drawn else self._draw(tick)
        media_ns = round(tick * NS / self.fps) if self._own_time else -1
        frame = Frame(pixels, self._seq, Stamps(captured=now_ns()), media_ns)
        self._seq += 1
        return frame

    def _draw(self, tick: int) -> Pixels:
        pixels = draw(tick / self.fps, self.width, self.height, self.seed)
        if self.pixels == "rgb":
            return pixels
        found: Pixels = cv2.cvtColor(pixels, _FORMATS[self.pixels]).reshape(self.height, self.width, -1)
        return found

    def close(self) -> None:
        pass

    def describe(self) -> str:
        found = f"scene {self.seed}, {self.width}x{self.height} at {self.fps:g} frames/s"
        return f"{found}, {self._seconds:g} s drawn beforehand" if self._count else found


def _to_and_fro(tick: int, count: int) -> int:
    """0 to count - 1 and back, without a cut."""
    at = tick % max(1, 2 * count - 2)
    return min(at, 2 * count - 2 - at) if count > 1 else 0
