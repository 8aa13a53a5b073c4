"""Outlines for scenes: every function returns antialiased masks, float32 (size, size), 0..1."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.float32]
Rng = np.random.Generator
_SHIFT = 4
_LETTERS = "ABCDEFGHKLMNOPRSTUVXZabdefgkmnorst0123456789&!?%"


def _blank(size: int) -> NDArray[np.uint8]:
    return np.zeros((size, size), np.uint8)


def _mask(canvas: NDArray[np.uint8]) -> Mask:
    return np.asarray(canvas, np.float32) / np.float32(255)


def polygon(size: int, points: NDArray[np.floating]) -> Mask:
    """Filled; `points` (n, 2) in units of the side."""
    fixed = np.round(points * size * 2**_SHIFT).astype(np.int32)
    return _mask(cv2.fillPoly(_blank(size), [fixed], 255, cv2.LINE_AA, _SHIFT))


def ellipse(size: int, centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Mask:
    """Filled; centre and radii in units of the side, `turn` in degrees."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    x, y = radii[0] * np.cos(t), radii[1] * np.sin(t)
    return polygon(size, np.stack([centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y], -1))


def limb(size: int, points: NDArray[np.floating], width: float) -> Mask:
    """A thick line with round ends through the points; `width` in units of the side."""
    fixed = np.round(points * size * 2**_SHIFT).astype(np.int32)
    thick = max(1, round(width * size))
    return _mask(cv2.polylines(_blank(size), [fixed], False, 255, thick, cv2.LINE_AA, _SHIFT))


def blob(size: int, rng: Rng) -> Mask:
    """A smooth closed curve."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = rng.uniform(0.05, 0.3) * (
        1 + sum(rng.normal(0, 0.35 / k) * np.cos(k * t + rng.uniform(0, 6)) for k in (2, 3, 5))
    )
    centre = rng.uniform(0, 1, 2)
    return polygon(size, centre + np.stack([radius * np.cos(t), radius * np.sin(t)], -1))


def box(size: int, rng: Rng) -> Mask:
    """A slightly skewed rectangle."""
    centre, half = rng.uniform(0, 1, 2), rng.uniform(0.04, 0.28, 2)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + rng.normal(0, 0.015, (4, 2))
    angle = rng.choice([0.0, rng.normal(0, 0.2), rng.uniform(0, np.pi)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return polygon(size, centre + corners @ turn.T)


def disc(size: int, rng: Rng) -> Mask:
    """A ball or a plate."""
    radius = rng.uniform(0.03, 0.3)
    return ellipse(
        size,
        tuple(rng.uniform(0, 1, 2)),
        (radius, radius * rng.choice([1.0, rng.uniform(0.3, 1)])),
        rng.uniform(0, 180),
    )


def shard(size: int, rng: Rng) -> Mask:
    """A triangle to hexagon."""
    count = int(rng.integers(3, 7))
    t = np.sort(rng.uniform(0, 2 * np.pi, count))
    return polygon(size, rng.uniform(0, 1, 2) + rng.uniform(0.06, 0.35) * np.stack([np.cos(t), np.sin(t)], -1))


def pot(size: int, rng: Rng) -> Mask:
    """A vase, a bottle or a cup: a turned profile."""
    height, width = rng.uniform(0.15, 0.5), rng.uniform(0.05, 0.18)
    v = np.linspace(0, 1, 16)
    profile = width * (1 + 0.4 * np.sin(rng.uniform(2, 7) * v + rng.uniform(0, 6)))
    cx, cy = rng.uniform(0, 1), rng.uniform(0.2, 0.9)
    right = np.stack([cx + profile, cy - height / 2 + v * height], -1)
    left = np.stack([cx - profile[::-1], right[::-1, 1]], -1)
    return polygon(size, np.concatenate([right, left]))


def shape(size: int, rng: Rng) -> Mask:
    """Any of them."""
    return (blob, box, disc, shard, pot)[int(rng.integers(5))](size, rng)


def ridge(size: int, rng: Rng, level: float) -> Mask:
    """Everything below a hilly line at about `level` of the height."""
    x = np.linspace(-0.02, 1.02, 128)
    rough = rng.uniform(0.2, 1.2)
    y = level + sum(
        rng.normal(0, 0.09 / k**1.1) * np.sin(2 * np.pi * (k * rough * x + rng.uniform())) for k in range(1, 16)
    )
    return polygon(size, np.concatenate([np.stack([x, y], -1), [[1.1, 1.1], [-0.1, 1.1]]]))


def houses(size: int, rng: Rng, level: float) -> list[Mask]:
    """A few fronts with windows, standing at `level`."""
    out = []
    for _ in range(int(rng.integers(1, 4))):
        x, w, h = rng.uniform(0, 1), rng.uniform(0.06, 0.22), rng.uniform(0.1, 0.45)
        front = np.array(
            [
                [x, level],
                [x, level - h],
                [x + w / 2, level - h * rng.uniform(1, 1.3)],
                [x + w, level - h],
                [x + w, level],
            ]
        )
        out.append(polygon(size, front))
        panes, rows, columns = np.zeros((size, size), np.float32), int(rng.integers(1, 5)), int(rng.integers(1, 4))
        for r in range(rows):
            for c in range(columns):
                px, py = x + w * (c + 0.25) / columns, level - h * (r + 0.75) / rows
                dx, dy = w * 0.5 / columns, h * 0.45 / rows
                panes += polygon(size, np.array([[px, py], [px + dx, py], [px + dx, py + dy], [px, py + dy]]))
        out.append(np.clip(panes, 0, 1))
    return out


def planes(size: int, rng: Rng) -> list[Mask]:
    """Back wall, side wall, floor of a room."""
    corner, floor, tilt = rng.uniform(-0.2, 1.2), rng.uniform(0.5, 0.9), rng.uniform(-0.25, 0.25)
    side = np.array([[corner, -0.1], [1.2, -0.1], [1.2, 1.2], [corner, 1.2]])
    ground = np.array([[-0.1, floor - tilt], [corner, floor], [1.2, floor + tilt], [1.2, 1.2], [-0.1, 1.2]])
    return [np.ones((size, size), np.float32), polygon(size, side), polygon(size, ground)]


def pattern(size: int, rng: Rng) -> Mask:
    """Stripes, checks, bricks or dots in a random direction."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, size / 6)
    u, v = (np.cos(angle) * x + np.sin(angle) * y) / period, (np.cos(angle) * y - np.sin(angle) * x) / period
    kind = int(rng.integers(4))
    if kind == 0:
        wave = np.sin(2 * np.pi * u)
    elif kind == 1:
        wave = np.sin(np.pi * u) * np.sin(np.pi * v)
    elif kind == 2:
        row = np.floor(v)
        wave = np.minimum(np.abs((u + 0.5 * row) % 2 - 1), 2 * np.abs(v - row - 0.5)) * -2 + 1.7
    else:
        wave = 0.5 - np.hypot(u % 1 - 0.5, v % 1 - 0.5) * 2
    return np.asarray(np.clip(wave * period / 4 + 0.5, 0, 1), np.float32)


def branch(size: int, rng: Rng) -> Mask:
    """A tree or a plant."""
    out = _blank(size)
    stack = [
        (
            rng.uniform(0.1, 0.9),
            rng.uniform(0.6, 1.1),
            rng.normal(-np.pi / 2, 0.2),
            rng.uniform(0.12, 0.28),
            rng.uniform(2, 9),
        )
    ]
    while stack:
        x, y, angle, length, width = stack.pop()
        x2, y2 = x + length * np.cos(angle), y + length * np.sin(angle)
        ends = [(round(v * size * 16)) for v in (x, y, x2, y2)]
        cv2.line(out, (ends[0], ends[1]), (ends[2], ends[3]), 255, max(1, round(width)), cv2.LINE_AA, _SHIFT)
        if length > 0.035:
            stack += [
                (x2, y2, angle + rng.normal(0, 0.55), length * rng.uniform(0.6, 0.82), width * 0.68) for _ in range(2)
            ]
    return _mask(out)


def cables(size: int, rng: Rng) -> Mask:
    """Hanging or crossing lines."""
    out = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 6))):
        ends, sag = rng.uniform(-0.1, 1.1, (2, 2)), rng.normal(0, 0.2)
        t = np.linspace(0, 1, 24)[:, None]
        points = ends[0] * (1 - t) + ends[1] * t + np.array([0, 4 * sag]) * t * (1 - t)
        out = np.maximum(out, limb(size, points, rng.uniform(0.004, 0.02)))
    return out


def rings(size: int, rng: Rng) -> Mask:
    """Circles drawn, not filled."""
    out = _blank(size)
    centre = tuple(int(v) for v in rng.uniform(0, size * 16, 2))
    for _ in range(int(rng.integers(1, 5))):
        cv2.circle(
            out, centre, int(rng.uniform(0.03, 0.4) * size * 16), 255, int(rng.integers(1, 8)), cv2.LINE_AA, _SHIFT
        )
    return _mask(out)


def text(size: int, rng: Rng) -> Mask:
    """A line of lettering, sometimes tilted."""
    word = "".join(rng.choice(list(_LETTERS), int(rng.integers(2, 10))))
    out = _blank(size)
    where = (int(rng.uniform(-0.1, 0.5) * size), int(rng.uniform(0.15, 1.0) * size))
    cv2.putText(
        out,
        word,
        where,
        int(rng.integers(8)),
        float(rng.uniform(0.5, 3.0) * size / 256),
        255,
        int(rng.integers(1, 7)),
        cv2.LINE_AA,
    )
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), float(rng.normal(0, 12)), 1.0)
    return _mask(cv2.warpAffine(out, matrix, (size, size)))
