"""A person close by who looks around, blinks and speaks: a relief, lit once, that turns by shifting it by its depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from bridge.frame import Pixels
from bridge.sources.art.blend import Array, Color, Layer, noise
from bridge.sources.art.camera import Camera
from bridge.sources.art.palette import COATS, HAIRS, SKINS, Palette
from bridge.sources.art.solids import light_direction, shade_faces

REACH_X, REACH_Y = 1.5, 1.75
"""Half width and half height of the head's picture, in half head widths."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """`paint` draws the body, then the head turned to where it looks."""

    head: Layer
    relief: Array
    columns: Array
    lines: Array
    body: Layer
    size: float
    """Half the width of the head, pixels."""
    skin: Color
    iris: Color
    phase: float

    @classmethod
    def build(cls, unit: float, palette: Palette, rng: np.random.Generator) -> Portrait:
        size = 40 * unit
        wide, tall = round(2 * REACH_X * size), round(2 * REACH_Y * size)
        v, u = np.mgrid[0:tall, 0:wide].astype(np.float32)
        u, v = (u + 0.5) / size - REACH_X, (v + 0.5) / size - REACH_Y
        skin = SKINS[rng.integers(len(SKINS))]
        relief = _relief(u, v)
        color, alpha = _complexion(u, v, skin, HAIRS[rng.integers(len(HAIRS))], rng)
        shaded = _light(relief, color, size, palette)
        lines, columns = np.mgrid[0:tall, 0:wide].astype(np.float32)
        return cls(
            head=Layer.of(shaded, alpha),
            relief=(relief * size).astype(np.float32),
            columns=columns,
            lines=lines,
            body=_body(size, skin, COATS[rng.integers(len(COATS))], palette, rng),
            size=size,
            skin=skin,
            iris=((86, 54, 32), (60, 96, 120), (70, 104, 66))[rng.integers(3)],
            phase=float(rng.uniform(0, 20)),
        )

    def paint(self, canvas: Pixels, camera: Camera, t: float) -> None:
        t += self.phase
        x = camera.width * 0.74 + self.size * (0.7 * math.sin(t * 0.37) + 0.12 * math.sin(t * 1.7))
        y = camera.height * 0.62 + self.size * 0.07 * math.sin(t * 2.3)
        bw, _ = self.body.size
        shift = np.array([[1, 0, x % 1], [0, 1, y % 1]])
        body_at = (int(x) - bw / 2, int(y) + self.size * 0.75)
        self.body.over(canvas, *body_at)
        look = 0.42 * math.sin(t * 0.53) + 0.12 * math.sin(t * 1.31)
        nod = 0.1 * math.sin(t * 0.83)
        turned = self._turned(self._features(t, look), look, nod)
        width, height = turned.size
        turned.warped(shift, (width, height)).over(canvas, int(x) - width / 2, int(y) - height / 2)

    def _turned(self, color: Pixels, look: float, nod: float) -> Layer:
        """Nearer points move further: a small turn of the head without a mesh."""
        map_x = self.columns - self.relief * np.float32(0.55 * look)
        map_y = self.lines - self.relief * np.float32(0.55 * nod)
        return Layer(
            cv2.remap(color, map_x, map_y, cv2.INTER_LINEAR),
            cv2.remap(
                self.head.keep,
                map_x,
                map_y,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(255, 255, 255),
            ),
        )

    def _features(self, t: float, look: float) -> Pixels:
        color = self.head.color.copy()
        blink = max(0.0, 1 - abs((t % 3.7) - 0.12) / 0.12)
        for side in (-1, 1):
            self._eye(color, side, look, blink)
        talk = max(0.0, math.sin(t * 0.45)) * (0.5 + 0.5 * math.sin(t * 9.1)) * 0.09
        if talk > 0.01:
            self._oval(color, (0.0, 0.645), (0.2, talk), (78, 26, 30))
        return color

    def _eye(self, color: Pixels, side: int, look: float, blink: float) -> None:
        at = (0.37 * side, -0.14)
        shade = tuple(0.72 * c for c in self.skin)
        self._oval(color, at, (0.19, 0.105), shade)
        opening = 0.085 * (1 - blink)
        if opening < 0.012:
            return
        self._oval(color, at, (0.165, opening), (236, 232, 226))
        gaze = 0.06 * math.sin(look * 2.2)
        self._oval(color, (at[0] + gaze, at[1]), (min(0.08, opening), min(0.08, opening)), self.iris)
        self._oval(color, (at[0] + gaze, at[1]), (0.038, min(0.038, opening)), (14, 12, 14))
        self._oval(color, (at[0] + gaze + 0.03, at[1] - 0.03), (0.016, 0.016), (255, 255, 255))

    def _oval(
        self, color: Pixels, at: tuple[float, float], radii: tuple[float, float], fill: tuple[float, ...]
    ) -> None:
        size = self.size * 16
        middle = (round((at[0] + REACH_X) * size), round((at[1] + REACH_Y) * size))
        axes = (max(4, round(radii[0] * size)), max(4, round(radii[1] * size)))
        cv2.ellipse(color, middle, axes, 0, 0, 360, fill, -1, cv2.LINE_AA, 4)


def _bump(u: Array, v: Array, at: tuple[float, float], spread: tuple[float, float]) -> Array:
    bump: Array = np.exp(-(((u - at[0]) / spread[0]) ** 2) - ((v - at[1]) / spread[1]) ** 2)
    return bump


def _relief(u: Array, v: Array) -> Array:
    """Height of the face over the picture plane, in half head widths."""
    jaw = 1 + 0.24 * np.clip(v, 0, 2)
    skull = np.sqrt(np.clip(1.02 - (u * jaw) ** 2 - (v / 1.32) ** 2, 0, 2))
    bridge = np.exp(-((u / 0.13) ** 2)) * np.clip((v + 0.3) / 0.6, 0, 1) * (v < 0.34)
    nose = cv2.GaussianBlur((0.3 * bridge).astype(np.float32), (0, 0), max(0.4, u.shape[1] * 0.012))
    face: Array = skull + nose + 0.08 * _bump(u, v, (0, 0.3), (0.2, 0.08))
    for side in (-1, 1):
        face -= 0.16 * _bump(u, v, (0.37 * side, -0.12), (0.22, 0.14))
        face += 0.07 * _bump(u, v, (0.36 * side, -0.38), (0.26, 0.08)) + 0.07 * _bump(
            u, v, (0.48 * side, 0.28), (0.22, 0.22)
        )
    face += 0.06 * _bump(u, v, (0, 0.59), (0.24, 0.05)) + 0.07 * _bump(u, v, (0, 0.71), (0.2, 0.05))
    face += 0.08 * _bump(u, v, (0, 1.02), (0.2, 0.14))
    return face


def _complexion(u: Array, v: Array, skin: Color, hair: Color, rng: np.random.Generator) -> tuple[Array, Array]:
    """Colour without light (height, width, 3) and alpha of the head: skin, lips, brows, hair, ears."""
    size = u.shape[1] / (2 * REACH_X)

    def soft(distance: Array) -> Array:
        cover: Array = np.clip(distance * size + 0.5, 0, 1)[..., None]
        return cover

    jaw = 1 + 0.24 * np.clip(v, 0, 2)
    face = soft(1 - np.hypot(u * jaw, v / 1.32))
    strands = noise(rng, u.shape[0], u.shape[1], 26.0, 3)
    strands = cv2.GaussianBlur(strands, (0, 0), sigmaX=0.4, sigmaY=max(0.5, size * 0.16))
    locks = np.array(hair) * (0.55 + 0.95 * strands[..., None])
    mane = soft(1 - np.hypot(u / 1.2, (v + 0.16) / 1.34)) * soft(0.95 + 0.12 * np.sin(u * 9) - v)
    color = locks * mane
    blush = sum(_bump(u, v, (0.5 * s, 0.3), (0.26, 0.2)) for s in (-1, 1))
    tone = np.array(skin) + np.array((18, -14, -12)) * np.asarray(blush)[..., None]
    tone += 8 * (noise(rng, u.shape[0], u.shape[1], 40.0, 2)[..., None] - 0.5)
    lips = np.clip(1.5 * (_bump(u, v, (0, 0.585), (0.25, 0.055)) + _bump(u, v, (0, 0.7), (0.22, 0.06))) - 0.45, 0, 1)
    tone = tone + (np.array((186, 78, 76)) - tone) * 0.75 * lips[..., None]
    for side in (-1, 1):
        brow = soft(0.05 - np.abs(v + 0.4 - 0.12 * (np.abs(u) - 0.37) ** 2 * 4)) * soft(0.2 - np.abs(u - 0.38 * side))
        tone = tone + (np.array(hair) * 0.7 - tone) * 0.85 * brow
    color = color * (1 - face) + tone * face
    fringe = soft(-0.66 + 0.34 * u * u + 0.07 * np.sin(u * 7 + 1) - v) * mane
    temple = soft(np.abs(u) - 0.86 + 0.1 * np.clip(v, 0, 1)) * mane
    over = np.maximum(fringe, temple)
    return color * (1 - over) + locks * over, np.maximum(face, mane)[..., 0]


def _light(relief: Array, color: Array, size: float, palette: Palette, shine: float = 120) -> Array:
    smooth = cv2.GaussianBlur(relief.astype(np.float32), (0, 0), max(0.3, size * 0.03)) * size
    dy, dx = np.gradient(smooth)
    normals = np.stack([-dx, dy, np.full_like(dx, 0.9)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    flat = shade_faces(normals.reshape(-1, 3), color.reshape(-1, 3), light_direction(palette), palette, shine)
    shaded: Array = np.clip(0.25 * color + 0.82 * flat.reshape(color.shape), 0, 255)
    return shaded


def _body(size: float, skin: Color, coat: Color, palette: Palette, rng: np.random.Generator) -> Layer:
    """Neck and shoulders, rounded by inflating their outline."""
    wide, tall = round(4.6 * size), round(6 * size)
    mask, neck = np.zeros((tall, wide), np.uint8), np.zeros((tall, wide), np.uint8)
    mid = wide / 2
    outline = [
        (-0.5, 0.85),
        (-1.2, 1.15),
        (-1.85, 1.6),
        (-2.15, 2.6),
        (-2.2, 6.2),
        (2.2, 6.2),
        (2.15, 2.6),
        (1.85, 1.6),
        (1.2, 1.15),
        (0.5, 0.85),
    ]
    points = np.array([(mid + x * size, y * size) for x, y in outline], np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA)
    throat = np.array([(-0.46, -0.2), (0.46, -0.2), (0.52, 0.9), (0.05, 1.6), (-0.05, 1.6), (-0.52, 0.9)]) * size + (
        mid,
        0,
    )
    cv2.fillPoly(neck, [throat.astype(np.int32)], 255, cv2.LINE_AA)
    alpha = np.maximum(mask, neck) / 255.0
    depth = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / size
    puffed = 0.9 * cv2.GaussianBlur(np.sqrt(depth), (0, 0), max(0.4, 0.22 * size)) + 0.3 * np.sqrt(depth)
    cloth = 0.86 + 0.28 * noise(rng, tall, wide, 30.0, 3)[..., None]
    weave = 1 + 0.07 * np.sin(np.mgrid[0:tall, 0:wide][1] * 2.2)[..., None]
    part = (neck / 255.0)[..., None]
    color = np.array(coat) * cloth * weave * (1 - part) + np.array(skin) * 0.8 * part
    return Layer.of(_light(puffed, color, size, palette, shine=20), alpha)
