"""What furnishes the square: a tram that rushes by, lamps, birds, and leaves close to the lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from bridge.frame import Pixels
from bridge.sources.art.blend import Array, Color, Layer, lit, mix, noise, shadow
from bridge.sources.art.camera import Camera
from bridge.sources.art.palette import COATS, Palette
from bridge.sources.art.solids import SHIFT, fixed


@dataclass(frozen=True, slots=True)
class Tram:
    """Crosses behind the people, fast, every few seconds."""

    z: float
    body: Layer
    shade: Layer
    speed: float
    gap: float
    phase: float

    @classmethod
    def build(cls, focal: float, z: float, palette: Palette, rng: np.random.Generator) -> Tram:
        m = focal / z
        long, tall = round(15 * m), round(3.1 * m)
        color = np.zeros((tall, long, 3), np.float32)
        mask = np.zeros((tall, long), np.uint8)
        paint = COATS[rng.integers(len(COATS))]
        body = lit(paint, 0.55 + 0.45 * (1 - palette.lamps))
        radius = max(1, round(0.3 * m))
        cv2.rectangle(mask, (radius, 0), (long - radius, tall), 255, -1)
        cv2.rectangle(mask, (0, radius), (long, round(tall * 0.9)), 255, -1)
        color[:] = np.array(body) * np.linspace(1.2, 0.8, tall)[:, None, None]
        color[round(tall * 0.12) : round(tall * 0.18)] = lit(body, 0.6)
        color[round(tall * 0.9) :] = (26, 26, 32)
        glass = mix((70, 92, 116), palette.window, palette.lamps)
        step = 1.5 * m
        for i in range(int(long / step)):
            x0, x1 = round(i * step + 0.18 * m), round((i + 1) * step - 0.12 * m)
            y1 = tall * (0.86 if i % 4 == 2 else 0.56)
            cv2.rectangle(
                color, (x0, round(tall * 0.22)), (x1, round(y1)), lit(glass, float(rng.uniform(0.8, 1.1))), -1
            )
            if rng.random() < 0.7:
                head = (round((x0 + x1) / 2), round(tall * 0.46))
                cv2.circle(color, head, max(1, round(0.16 * m)), (44, 36, 44), -1)
                cv2.rectangle(
                    color,
                    (head[0] - round(0.25 * m), round(tall * 0.5)),
                    (head[0] + round(0.25 * m), round(tall * 0.56)),
                    (44, 36, 44),
                    -1,
                )
        return cls(z, Layer.of(color, mask / 255.0), shadow(long, 0.8 * m, 0.6), 9.0, 75.0, float(rng.uniform(0, 75)))

    def paint(self, canvas: Pixels, camera: Camera, t: float) -> None:
        x = (self.phase + t * self.speed) % self.gap - self.gap / 2
        px, py = camera.project(x, 0.0, self.z)
        wide, tall = self.shade.size
        self.shade.over(canvas, px - wide / 2, py - tall / 2)
        self.body.over(canvas, px - self.body.size[0] / 2, py - self.body.size[1])


@dataclass(frozen=True, slots=True)
class Lamp:
    """A street lamp, with a glow when it is dark."""

    x: float
    z: float
    color: Color
    glow: Layer
    shade: Layer

    @classmethod
    def build(cls, focal: float, x: float, z: float, palette: Palette) -> Lamp:
        radius = max(2, round(0.75 * focal / z))
        yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32) / radius
        r = np.hypot(xx, yy)
        alpha = (0.2 + 0.8 * palette.lamps) * np.clip(0.55 * np.exp(-5 * r * r) + 1.3 * (r < 0.16), 0, 1) * (r < 1)
        glow = Layer.of(np.full((*r.shape, 3), (255, 232, 186), np.float32), alpha)
        return cls(x, z, lit(palette.ridge, 0.5), glow, shadow(0.5 * focal / z, 0.16 * focal / z, 0.5))

    def paint(self, canvas: Pixels, camera: Camera, _: float) -> None:
        foot = camera.project(self.x, 0.0, self.z)
        top = camera.project(self.x, 3.6, self.z)
        arm = camera.project(self.x + 0.5, 3.75, self.z)
        self.shade.over(canvas, foot[0] - self.shade.size[0] / 2, foot[1] - self.shade.size[1] / 2)
        thick = max(1, round(0.1 * camera.scale(self.z)))
        path = fixed(np.array([foot, top, arm]))
        cv2.polylines(canvas, [path], False, self.color, thick, cv2.LINE_AA, SHIFT)
        side = self.glow.size[0] / 2
        self.glow.over(canvas, arm[0] - side, arm[1] - side)


@dataclass(frozen=True, slots=True)
class Leaves:
    """A branch close to the lens, out of focus, swaying in the upper left."""

    branch: Layer
    sway: float
    margin: int
    """How much of it is outside the picture at rest, so that swaying bares no edge."""

    @classmethod
    def build(cls, width: int, height: int, palette: Palette, rng: np.random.Generator) -> Leaves:
        unit = min(width, height) / 512
        w, h, margin = round(230 * unit), round(185 * unit), round(45 * unit)
        color = np.zeros((h, w, 3), np.float32)
        mask = np.zeros((h, w), np.uint8)
        green = mix((58, 96, 44), palette.ridge, 0.35 + 0.35 * palette.lamps)
        for _ in range(190):
            at = np.minimum(np.abs(rng.normal(0, 0.36, 2)), 0.8)
            middle = (round(float(at[0]) * w), round(float(at[1]) * h * 0.9))
            axes = (max(1, round(unit * rng.uniform(7, 16))), max(1, round(unit * rng.uniform(3, 6))))
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(color, middle, axes, angle, 0, 360, lit(green, float(rng.uniform(0.6, 1.5))), -1, cv2.LINE_AA)
            cv2.ellipse(mask, middle, axes, angle, 0, 360, 255, -1, cv2.LINE_AA)
        soft = max(0.4, 2.2 * unit)
        alpha = cv2.GaussianBlur(mask, (0, 0), soft) / 255.0
        blurred = cv2.GaussianBlur(color * (mask / 255.0)[..., None], (0, 0), soft) / np.maximum(alpha, 0.02)[..., None]
        fine = 0.9 + 0.2 * noise(rng, h, w, 20.0, 3)[..., None]
        return cls(Layer.of(np.clip(blurred * fine, 0, 255), alpha), 5 * unit, margin)

    def paint(self, canvas: Pixels, camera: Camera, t: float) -> None:
        bend = 0.05 * math.sin(t * 1.1) + 0.02 * math.sin(t * 2.9)
        shift = self.sway * (math.sin(t * 0.8) - 4 * camera.x / 1.15)
        matrix = np.array([[1.0, bend, shift], [bend * 0.6, 1.0, self.sway * math.sin(t * 1.3)]])
        self.branch.warped(matrix, self.branch.size).over(canvas, -self.margin, -self.margin)


def birds(canvas: Pixels, camera: Camera, t: float, offsets: Array, beats: Array, ink: Color) -> None:
    """A flock that crosses the sky: `offsets` (n, 2) in picture widths, `beats` (n,) wing beats in radians a second."""
    unit = camera.focal / 512
    x = ((t * 0.06) % 1.4 - 0.2) * camera.width
    y = camera.height * (0.2 + 0.03 * math.sin(t * 0.5))
    for (ox, oy), beat in zip(offsets.tolist(), beats.tolist(), strict=True):
        bx, by = x + ox * camera.width, y + oy * camera.height
        flap = 4.5 * unit * math.sin(t * beat)
        span = 7 * unit
        wing = np.array(
            [
                (bx - span, by - flap),
                (bx - span * 0.4, by - flap * 0.5),
                (bx, by),
                (bx + span * 0.4, by - flap * 0.5),
                (bx + span, by - flap),
            ]
        )
        cv2.polylines(canvas, [fixed(wing)], False, ink, max(1, round(1.4 * unit)), cv2.LINE_AA, SHIFT)
