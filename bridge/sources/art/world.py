"""One scene: a backdrop, and actors from far to near."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bridge.frame import Pixels
from bridge.sources.art.backdrop import Backdrop
from bridge.sources.art.blend import lit, shadow
from bridge.sources.art.camera import Camera
from bridge.sources.art.palette import COATS, PALETTES, Palette
from bridge.sources.art.people import Walker
from bridge.sources.art.portrait import Portrait
from bridge.sources.art.solids import GOLD, Ball, Mesh, box
from bridge.sources.art.street import Lamp, Leaves, Tram, birds

Painter = Callable[[Pixels, Camera, float], None]


@dataclass(frozen=True, slots=True)
class World:
    """All that a (width, height, seed) fixes. Immutable, so any number of threads may paint from it."""

    width: int
    height: int
    phase: float
    backdrop: Backdrop
    actors: tuple[Painter, ...]
    """From far to near."""

    @classmethod
    def build(cls, width: int, height: int, seed: int) -> World:
        rng = np.random.default_rng(seed)
        palette = PALETTES[seed % len(PALETTES)]
        backdrop = Backdrop.build(width, height, palette, rng)
        focal = float(min(width, height))
        span = max(9.0, 11.0 * width / height)
        placed: list[tuple[float, Painter]] = [(99.0, _flock(palette, rng))]
        tram = Tram.build(focal, 15.0, palette, rng)
        placed.append((tram.z, tram.paint))
        for z, speed in ((10.5, 1.1), (8.5, -0.9), (7.4, 3.6), (6.2, -1.3), (4.4, 1.2)):
            walker = Walker.build(focal, z, speed, span * (0.5 + z / 9), palette, rng)
            placed.append((z, walker.paint))
        for x in (-6.0, -2.2, 1.9, 6.2):
            lamp = Lamp.build(focal, x, 9.0, palette)
            placed.append((lamp.z, lamp.paint))
        ball = Ball.build(focal, 5.2, palette, rng)
        placed += [(ball.z, ball.paint), (6.8, _plinth(focal, palette, rng)), (5.6, _crystal(focal, palette, rng))]
        portrait = Portrait.build(focal / 512, palette, rng)
        leaves = Leaves.build(width, height, palette, rng)
        placed += [(1.0, portrait.paint), (0.5, leaves.paint)]
        placed.sort(key=lambda item: -item[0])
        return cls(width, height, float(rng.uniform(0, math.tau)), backdrop, tuple(paint for _, paint in placed))

    def paint(self, t: float) -> Pixels:
        """The picture at second `t`: uint8 (height, width, 3) RGB, freshly allocated."""
        camera = Camera.at(t, self.width, self.height, self.phase)
        canvas = np.empty((self.height, self.width, 3), np.uint8)
        self.backdrop.paint(canvas, camera, t)
        for paint in self.actors:
            paint(canvas, camera, t)
        return canvas


def _plinth(focal: float, palette: Palette, rng: np.random.Generator) -> Painter:
    """A golden ring that turns on a stone block."""
    ring = Mesh.ring(0.5, 0.19, GOLD)
    stone = lit((178, 172, 168), 0.55 + 0.45 * (1 - palette.lamps))
    z, x = 6.8, float(rng.uniform(-1.9, -1.1))
    shade = shadow(1.9 * focal / z, 0.5 * focal / z, 0.6)

    def paint(canvas: Pixels, camera: Camera, t: float) -> None:
        gx, gy = camera.project(x, 0.0, z)
        shade.over(canvas, gx - shade.size[0] / 2, gy - shade.size[1] / 2)
        box(canvas, camera, (x, 0.0, z - 0.4), (0.9, 0.75, 0.8), stone)
        box(canvas, camera, (x, 0.75, z - 0.5), (1.06, 0.12, 1.0), lit(stone, 1.1))
        ring.paint(canvas, camera, (x, 1.62, z), (0.35 + 0.25 * math.sin(t * 0.9), t * 1.15), palette)

    return paint


def _crystal(focal: float, palette: Palette, rng: np.random.Generator) -> Painter:
    """A crystal that hovers, turns and throws a shadow."""
    mesh = Mesh.crystal(0.34, 0.62, 6, COATS[rng.integers(len(COATS))])
    z, x = 5.6, float(rng.uniform(0.1, 0.7))
    shade = shadow(0.7 * focal / z, 0.2 * focal / z, 0.5)

    def paint(canvas: Pixels, camera: Camera, t: float) -> None:
        gx, gy = camera.project(x, 0.0, z)
        shade.over(canvas, gx - shade.size[0] / 2, gy - shade.size[1] / 2)
        mesh.paint(canvas, camera, (x, 1.05 + 0.16 * math.sin(t * 1.4), z), (0.18, t * 0.8), palette)

    return paint


def _flock(palette: Palette, rng: np.random.Generator) -> Painter:
    offsets = rng.normal(0, 1, (9, 2)) * (0.09, 0.035)
    beats = rng.uniform(7, 11, 9)
    ink = lit(palette.ridge, 0.6)

    def paint(canvas: Pixels, camera: Camera, t: float) -> None:
        birds(canvas, camera, t, offsets, beats, ink)

    return paint
