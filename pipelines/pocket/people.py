"""People and animals for scenes, as outlines from back to front."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pocket.figures import Mask, Rng, ellipse, limb, polygon

Part = tuple[Mask, NDArray[np.float32] | None, float]
"""Outline, colour (None: any), relief."""


def skin(rng: Rng) -> NDArray[np.float32]:
    """Any human skin, lit anyhow."""
    tone = rng.uniform(0, 1)
    light, dark = np.array([0.97, 0.8, 0.7]), np.array([0.3, 0.18, 0.13])
    return ((light * tone + dark * (1 - tone)) * rng.uniform(0.75, 1.05)).astype(np.float32)


def person(size: int, rng: Rng) -> list[tuple[Mask, bool]]:
    """A standing or striding figure, parts from back to front, with whether each is bare skin."""
    h, x, foot = rng.uniform(0.35, 1.1), rng.uniform(0.1, 0.9), rng.uniform(0.85, 1.25)
    top, hip, wide = foot - h, foot - 0.47 * h, 0.1 * h
    stride, reach = rng.normal(0, 0.1, 2) * h, rng.normal(0, 0.14, (2, 2)) * h
    parts: list[tuple[Mask, bool]] = []
    for side, step in ((-1, stride[0]), (1, stride[1])):
        points = np.array(
            [
                [x + side * wide * 0.5, hip],
                [x + side * wide * 0.5 + step * 0.4, hip + 0.24 * h],
                [x + side * wide * 0.5 + step, foot],
            ]
        )
        parts.append((limb(size, points, 0.085 * h), False))
    chest = np.array(
        [
            [x - wide, top + 0.19 * h],
            [x + wide, top + 0.19 * h],
            [x + wide * 0.75, hip + 0.04 * h],
            [x - wide * 0.75, hip + 0.04 * h],
        ]
    )
    parts.append((np.maximum(polygon(size, chest), limb(size, chest[:2], 0.05 * h)), False))
    for side, hand in ((-1, reach[0]), (1, reach[1])):
        shoulder = np.array([x + side * wide, top + 0.2 * h])
        elbow = shoulder + np.array([side * 0.04 * h + hand[0] * 0.5, 0.17 * h + hand[1] * 0.5])
        parts.append(
            (
                limb(size, np.stack([shoulder, elbow, elbow + np.array([hand[0], 0.14 * h + hand[1]])]), 0.05 * h),
                bool(rng.random() < 0.5),
            )
        )
    parts.append((limb(size, np.array([[x, top + 0.1 * h], [x, top + 0.2 * h]]), 0.05 * h), True))
    parts.append((ellipse(size, (x, top + 0.075 * h), (0.053 * h, 0.072 * h)), True))
    parts.append((ellipse(size, (x, top + 0.04 * h), (0.056 * h, 0.045 * h)), False))
    return parts


def _eye(size: int, x: float, y: float, r: float, iris: NDArray[np.float32]) -> list[Part]:
    white, black = np.full(3, 0.93, np.float32), np.full(3, 0.04, np.float32)
    return [
        (ellipse(size, (x, y), (r, r * 0.55)), white, 0.0),
        (ellipse(size, (x, y), (r * 0.5, r * 0.5)), iris, 0.0),
        (ellipse(size, (x, y), (r * 0.25, r * 0.25)), black, 0.0),
        (ellipse(size, (x + r * 0.18, y - r * 0.2), (r * 0.1, r * 0.1)), white, 0.0),
    ]


def face(size: int, rng: Rng) -> list[Part]:
    """A head with shoulders, hair or ears, eyes, nose, mouth; parts from back to front."""
    r, x, y = rng.uniform(0.1, 0.34), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.6)
    animal = rng.random() < 0.35
    fur = rng.uniform(0.1, 0.95, 3).astype(np.float32) if animal else skin(rng)
    dark = (fur * 0.45).astype(np.float32)
    hair = rng.choice([0.05, 0.2, 0.55]) * np.array([1.0, 0.75, 0.5], np.float32)
    yaw, long = rng.normal(0, 0.15) * r, rng.uniform(1.15, 1.45) if not animal else rng.uniform(0.85, 1.05)
    parts: list[Part] = []
    if not animal:
        parts.append(
            (
                ellipse(size, (x, y - 0.12 * r), (r * rng.uniform(1.1, 1.35), r * rng.uniform(1.3, 1.9))),
                hair.astype(np.float32),
                0.6,
            )
        )
    parts.append((ellipse(size, (x, y + 2.7 * r), (2.1 * r, 1.35 * r)), fur if animal else None, 0.8))
    parts.append((limb(size, np.array([[x, y + 0.6 * r], [x, y + 1.6 * r]]), 0.9 * r), fur, 0.4))
    if animal:
        for side in (-1, 1):
            tip = np.array(
                [
                    [x + side * 0.95 * r, y - 0.2 * r],
                    [x + side * 0.85 * r, y - 1.35 * r],
                    [x + side * 0.25 * r, y - 0.75 * r],
                ]
            )
            parts += [(polygon(size, tip), fur, 0.3), (polygon(size, tip * 0.6 + tip.mean(0) * 0.4), dark, 0.1)]
    parts.append((ellipse(size, (x, y), (r, r * long)), fur, 0.9))
    if not animal:
        fringe = ellipse(size, (x, y - r * long * 0.75), (r * 1.05, r * 0.55), rng.normal(0, 12))
        parts.append((fringe, hair.astype(np.float32), 0.5))
    iris = rng.uniform(0.05, 0.7, 3).astype(np.float32)
    for side in (-1, 1):
        ex, ey = x + side * 0.4 * r + yaw, y - 0.1 * r
        parts += _eye(size, ex, ey, r * (0.24 if animal else 0.19), iris)
        parts.append(
            (
                limb(size, np.array([[ex - 0.2 * r, ey - 0.24 * r], [ex + 0.2 * r, ey - 0.27 * r]]), 0.05 * r),
                hair.astype(np.float32),
                0.0,
            )
        )
    nose = np.array([[x + yaw, y], [x + yaw - 0.14 * r, y + 0.42 * r], [x + yaw + 0.14 * r, y + 0.42 * r]])
    parts.append(
        (cv2.GaussianBlur(polygon(size, nose), (0, 0), max(0.6, 0.06 * r * size)), (fur * 0.75).astype(np.float32), 0.6)
    )
    lip = np.array([0.55, 0.15, 0.15], np.float32) if rng.random() < 0.6 else dark
    parts.append((ellipse(size, (x + yaw, y + 0.72 * r), (0.32 * r, rng.uniform(0.05, 0.16) * r)), lip, 0.3))
    return parts
