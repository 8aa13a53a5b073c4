"""People who walk, run and stop: jointed figures with coats, lit from one side, each with a soft shadow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from bridge.frame import Pixels
from bridge.sources.art.blend import Color, Layer, lit, shadow
from bridge.sources.art.camera import Camera
from bridge.sources.art.palette import COATS, HAIRS, SKINS, Palette
from bridge.sources.art.solids import SHIFT, fixed

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Walker:
    """Crosses the square at distance z, again and again."""

    z: float
    speed: float
    """Metres a second, negative to the left."""
    start: float
    tall: float
    coat: Color
    trousers: Color
    skin: Color
    hair: Color
    bag: bool
    lamp_side: float
    shade: Layer
    span: float

    @classmethod
    def build(
        cls, focal: float, z: float, speed: float, span: float, palette: Palette, rng: np.random.Generator
    ) -> Walker:
        dim = 0.62 + 0.38 * (1 - palette.lamps)
        return cls(
            z=z,
            speed=speed,
            start=float(rng.uniform(0, span)),
            tall=float(rng.uniform(1.55, 1.9)),
            coat=lit(COATS[rng.integers(len(COATS))], dim),
            trousers=lit(((52, 56, 76), (92, 76, 62), (38, 36, 44))[rng.integers(3)], dim),
            skin=lit(SKINS[rng.integers(len(SKINS))], 0.5 + 0.5 * dim),
            hair=lit(HAIRS[rng.integers(len(HAIRS))], dim),
            bag=bool(rng.random() < 0.5),
            lamp_side=1.0 if palette.sun[0] > 0.5 else -1.0,
            shade=shadow(0.95 * focal / z, 0.22 * focal / z, 0.55),
            span=span,
        )

    def paint(self, canvas: Pixels, camera: Camera, t: float) -> None:
        x = (self.start + self.speed * t) % self.span - self.span / 2
        s = camera.scale(self.z) * self.tall / 1.75
        gx, gy = camera.project(x, 0.0, self.z)
        if not -s < gx < camera.width + s:
            return
        self.shade.over(canvas, gx - self.shade.size[0] / 2, gy - self.shade.size[1] / 2)
        _Figure(canvas, self, s, (gx, gy), t).paint()


class _Figure:
    """One drawing of one walker: joints from the gait, then limbs from far to near."""

    def __init__(self, canvas: Pixels, who: Walker, scale: float, ground: Point, t: float) -> None:
        self.canvas, self.who, self.scale = canvas, who, scale
        self.facing = 1.0 if who.speed > 0 else -1.0
        pace = abs(who.speed)
        self.run = min(1.0, max(0.0, (pace - 1.6) / 1.5))
        self.phase = t * (3.2 + 1.9 * pace) + who.start
        bounce = 0.03 * (1 + self.run) * abs(math.sin(self.phase))
        self.hip = (ground[0], ground[1] - (0.88 + bounce - 0.05) * scale)
        lean = self.facing * (0.03 + 0.16 * self.run)
        self.neck = (self.hip[0] + lean * scale, self.hip[1] - 0.55 * scale)

    def paint(self) -> None:
        who = self.who
        for side in (-1.0, 1.0):
            gain = 0.72 if side < 0 else 1.0
            if side > 0:
                self._torso()
                self._head()
            self._leg(side, lit(who.trousers, gain))
            if side > 0:
                self._coat_hem()
            self._arm(side, lit(who.coat, gain * 0.92))

    def _leg(self, side: float, color: Color) -> None:
        swing = (0.46 + 0.42 * self.run) * math.sin(self.phase + (0 if side > 0 else math.pi))
        lift = max(0.0, math.cos(self.phase + (0 if side > 0 else math.pi)))
        knee = self._from(self.hip, swing + 0.12, 0.42)
        ankle = self._from(knee, swing - (0.25 + 1.25 * self.run) * lift - 0.06, 0.42)
        self._limb(self.hip, knee, 0.15, color)
        self._limb(knee, ankle, 0.115, color)
        toe = (ankle[0] + self.facing * 0.14 * self.scale, ankle[1] + 0.02 * self.scale)
        self._limb(ankle, toe, 0.085, (34, 28, 30))

    def _arm(self, side: float, color: Color) -> None:
        swing = -(0.5 + 0.4 * self.run) * math.sin(self.phase + (0 if side > 0 else math.pi))
        shoulder = (self.neck[0], self.neck[1] + 0.07 * self.scale)
        elbow = self._from(shoulder, swing, 0.29)
        hand = self._from(elbow, swing + 0.25 + 1.0 * self.run, 0.26)
        self._limb(shoulder, elbow, 0.11, color)
        self._limb(elbow, hand, 0.09, color)
        self._dot(hand, 0.045, self.who.skin)
        if self.who.bag and side > 0:
            corner = np.array([(-0.12, 0.03), (0.12, 0.03), (0.14, 0.3), (-0.14, 0.3)]) * self.scale + np.array(hand)
            cv2.fillConvexPoly(self.canvas, fixed(corner), (122, 84, 52), cv2.LINE_AA, SHIFT)

    def _torso(self) -> None:
        color, n, h = self.who.coat, self.neck, self.hip
        self._quad(n, h, 0.17, 0.15, color)
        bright = self.who.lamp_side * 0.09 * self.scale
        self._quad((n[0] + bright, n[1] + 0.05 * self.scale), (h[0] + bright, h[1]), 0.07, 0.06, lit(color, 1.22))

    def _coat_hem(self) -> None:
        sway = 0.05 * math.sin(self.phase) * self.scale
        hem = (self.hip[0] - sway, self.hip[1] + 0.22 * self.scale)
        self._quad((self.hip[0], self.hip[1] - 0.08 * self.scale), hem, 0.155, 0.19, lit(self.who.coat, 0.94))

    def _head(self) -> None:
        who, s = self.who, self.scale
        top = (self.neck[0] + self.facing * 0.03 * s, self.neck[1] - 0.19 * s)
        self._limb(self.neck, top, 0.09, lit(who.skin, 0.8))
        self._dot((top[0] - self.facing * 0.02 * s, top[1] - 0.025 * s), 0.125, who.hair)
        self._dot((top[0] + self.facing * 0.025 * s, top[1] + 0.015 * s), 0.1, who.skin)
        if s > 60:
            self._dot((top[0] + self.facing * 0.075 * s, top[1] - 0.005 * s), 0.014, (30, 24, 26))
        self._quad(
            (self.neck[0], self.neck[1] - 0.05 * s),
            (self.neck[0], self.neck[1] + 0.05 * s),
            0.08,
            0.12,
            lit(who.coat, 0.7),
        )

    def _from(self, joint: Point, angle: float, length: float) -> Point:
        """`length` metres from `joint`, `angle` radians ahead of straight down."""
        reach = length * self.scale
        return joint[0] + self.facing * math.sin(angle) * reach, joint[1] + math.cos(angle) * reach

    def _limb(self, a: Point, b: Point, width: float, color: Color) -> None:
        ends = fixed(np.array([a, b])).tolist()
        cv2.line(self.canvas, ends[0], ends[1], color, max(1, round(width * self.scale)), cv2.LINE_AA, SHIFT)

    def _dot(self, at: Point, radius: float, color: Color) -> None:
        middle = fixed(np.array(at)).tolist()
        cv2.circle(self.canvas, middle, max(8, round(radius * self.scale * 16)), color, -1, cv2.LINE_AA, SHIFT)

    def _quad(self, a: Point, b: Point, wide_a: float, wide_b: float, color: Color) -> None:
        wa, wb = wide_a * self.scale, wide_b * self.scale
        corners = np.array([(a[0] - wa, a[1]), (a[0] + wa, a[1]), (b[0] + wb, b[1]), (b[0] - wb, b[1])])
        cv2.fillConvexPoly(self.canvas, fixed(corners), color, cv2.LINE_AA, SHIFT)
