"""Short films with known motion, cut out of drawn scenes: what a TemporalNet learns from.

A background and, in half of them, something in front of it, each moving in its own way: pans, turns, zooms, a hand that
shakes, a camera on its stand; and the grain of a sensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Rng = np.random.Generator
Matrix = NDArray[np.float64]
LAYERS = 2
"""Of a film: what is behind and what is in front."""
STILL, SHAKEN, TWO = 0.2, 0.3, 0.5
"""Shares of films whose camera stands still, of those whose camera shakes, and of those with something in front."""
FAST = 6.0
"""Pixels that a film moves in a frame, at most."""
GRAIN = 4.0
"""Levels of a sensor's noise, at most; half of the films have none."""


@dataclass
class Frame:
    """The present frames of some films."""

    pictures: Tensor
    """(n, 3, side, side) in -1..1."""
    flow: Tensor
    """(n, 2, side, side) px, backward: what is at (x, y) was at (x, y) + flow a frame ago."""


class Films:
    """Some films at once, each at a frame of its own."""

    def __init__(self, shown: NDArray[np.uint8], rows: int, side: int) -> None:
        """Out of scenes, (count, size, size, 3); size is `side` or more."""
        self._shown, self._side = shown, side
        self._scenes = torch.zeros(rows, LAYERS, 3, *shown.shape[1:3])
        self._steps = np.tile(np.eye(3), (rows, LAYERS, 1, 1))
        self._first = self._steps.copy()
        """From a pixel of the present frame to its place in the first."""
        self._corner = np.zeros((rows, LAYERS, 2))
        self._shape = np.zeros((rows, 5))
        """What is in front: an ellipse's centre and half axes in the first frame, and 1 where there is one."""
        self._shake, self._grain = np.zeros(rows), np.zeros(rows)
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        self._here = torch.stack([x, y, torch.ones_like(x)], -1).float()

    def begin(self, row: int, rng: Rng) -> None:
        """Another film in that row."""
        room = self._shown.shape[1] - self._side
        for layer, scene in enumerate(rng.integers(len(self._shown), size=LAYERS)):
            self._scenes[row, layer] = torch.from_numpy(self._shown[scene].copy()).permute(2, 0, 1).float() / 127.5 - 1
            self._steps[row, layer] = _step(rng, self._side)
        self._first[row] = np.eye(3)
        self._corner[row] = 8 * rng.integers(room // 8 + 1, size=(LAYERS, 2))
        centre, half = rng.uniform(0.1, 0.9, 2), rng.uniform(0.12, 0.35, 2)
        self._shape[row] = *(self._side * centre), *(self._side * half), float(rng.random() < TWO)
        self._shake[row] = 0.7 * float(rng.random() < SHAKEN)
        self._grain[row] = GRAIN * max(0.0, float(rng.uniform(-1, 1)))

    def turn(self, rng: Rng, generator: torch.Generator) -> Frame:
        """The next frame of every film."""
        steps = self._steps.copy()
        steps[..., :2, 2] += rng.normal(size=(len(steps), 1, 2)) * self._shake[:, None, None]
        self._first = self._first @ steps
        places, front = self._places(self._first), self._front(self._first)
        places += torch.from_numpy(self._corner).float()[:, :, None, None]
        layers = [_sample(self._scenes[:, layer], places[:, layer]) for layer in range(LAYERS)]
        pictures = torch.lerp(layers[0], layers[1], front[:, None])
        grain = torch.from_numpy(self._grain / 127.5).float()[:, None, None, None]
        pictures = pictures + grain * torch.randn(pictures.shape, generator=generator)
        moves = self._places(steps) - self._here[..., :2]
        flow = torch.where(front[..., None] > 0.5, moves[:, 1], moves[:, 0]).permute(0, 3, 1, 2)
        return Frame(pictures.clamp(-1, 1), flow)

    def _places(self, matrices: Matrix) -> Tensor:
        """Where pixels go, (n, LAYERS, side, side, 2)."""
        return torch.einsum("nlij,hwj->nlhwi", torch.from_numpy(matrices[..., :2, :]).float(), self._here)

    def _front(self, first: Matrix) -> Tensor:
        """How much of each pixel is in front, 0..1, (n, side, side)."""
        shape = torch.from_numpy(self._shape).float()[:, :, None, None]
        place = self._places(first[:, 1:])[:, 0].permute(0, 3, 1, 2)
        away = ((place - shape[:, :2]) / shape[:, 2:4]).square().sum(1).sqrt()
        edge = (1 - away) * shape[:, 2:4].mean(1) + 0.5
        return edge.clamp(0, 1) * shape[:, 4]


def _step(rng: Rng, side: int) -> Matrix:
    """From a pixel of one frame to its place in the one before, in homogeneous coordinates."""
    out = np.eye(3)
    if rng.random() < STILL:
        return out
    angle, zoom = np.radians(rng.normal(0, 0.5)), 1 + rng.normal(0, 0.006)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    out[:2, :2] = [[cos, -sin], [sin, cos]]
    centre = np.full(2, (side - 1) / 2)
    reach, way = FAST * rng.random() ** 1.5, rng.uniform(0, 2 * np.pi)
    out[:2, 2] = centre - out[:2, :2] @ centre + reach * np.array([np.cos(way), np.sin(way)])
    return out


def _sample(pictures: Tensor, places: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) at places (n, side, side, 2) in their pixels; mirrored beyond the border."""
    height, width = pictures.shape[2:]
    grid = (2 * places + 1) / torch.tensor([width, height]) - 1
    return F.grid_sample(pictures, grid, "bilinear", "reflection", align_corners=False)


def estimated(flow: Tensor, rng: Rng, generator: torch.Generator) -> Tensor:
    """What an estimate might make of a flow, (n, 2, h, w): soft at borders, a little off, and in one film of eight
    quite wrong somewhere."""
    count, _, height, width = flow.shape
    out = F.interpolate(F.avg_pool2d(flow, 8), (height, width), mode="bilinear")
    off = torch.from_numpy(0.3 * rng.random(count) ** 2).float()[:, None, None, None]
    coarse = torch.randn(count, 2, height // 16, width // 16, generator=generator) * off
    out = out + F.interpolate(coarse, (height, width), mode="bicubic")
    for row in np.flatnonzero(rng.random(count) < 0.125):
        top, left = int(rng.integers(height // 2)), int(rng.integers(width // 2))
        wrong = torch.from_numpy(rng.normal(0, 3, (2, 1, 1))).float()
        out[row, :, top : top + height // 3, left : left + width // 3] += wrong
    return out
