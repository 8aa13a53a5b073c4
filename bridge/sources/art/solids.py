"""Shaded solid things: a turning ring on a plinth, a bouncing ball, a hovering crystal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from bridge.frame import Pixels
from bridge.sources.art.blend import Array, Color, Layer, lit, noise, shadow
from bridge.sources.art.camera import Camera
from bridge.sources.art.palette import COATS, Palette

SHIFT = 4
"""cv2 draws with this many fractional bits, so that slow things glide."""
GOLD: Color = (236, 176, 62)


def fixed(points: Array) -> Array:
    """Picture coordinates as cv2's fixed point."""
    return np.round(points * (1 << SHIFT)).astype(np.int32)


def light_direction(palette: Palette) -> Array:
    """Unit vector towards the light: x right, y up, z towards the viewer."""
    towards = np.array([(palette.sun[0] - 0.5) * 2.6, 0.75, 0.55])
    unit: Array = towards / np.linalg.norm(towards)
    return unit


def shade_faces(normals: Array, color: Array, light: Array, palette: Palette, shine: float = 190) -> Array:
    """Lambert, sky light and a highlight for unit `normals` (n, 3) and `color` (n, 3) or (3,); returns (n, 3)."""
    diffuse = np.clip(normals @ light, 0, 1)[:, None]
    half = light + np.array([0.0, 0.0, 1.0])
    gloss = (np.clip(normals @ (half / np.linalg.norm(half)), 0, 1) ** 24)[:, None]
    ambient = 0.34 + 0.16 * normals[:, 1:2]
    tint = np.array(palette.light) / 255
    shaded: Array = np.clip(color * (ambient + 0.85 * diffuse * tint) + shine * gloss * tint, 0, 255)
    return shaded


def _turn(ax: float, ay: float) -> Array:
    cx, sx, cy, sy = math.cos(ax), math.sin(ax), math.cos(ay), math.sin(ay)
    about_x, about_y = (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]),
        np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]),
    )
    rotation: Array = about_x @ about_y
    return rotation


def _fill(canvas: Pixels, polygons: Array, colors: Array) -> None:
    for polygon, color in zip(fixed(polygons), colors.tolist(), strict=True):
        cv2.fillConvexPoly(canvas, polygon, color, cv2.LINE_AA, SHIFT)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Quads or triangles around the origin; `paint` turns, projects, culls, sorts and fills them."""

    corners: Array
    """(faces, corners per face, 3) in metres, y up."""
    normals: Array
    colors: Array

    @classmethod
    def ring(cls, radius: float, tube: float, color: Color, around: int = 26, across: int = 12) -> Mesh:
        u, v = np.meshgrid(
            np.arange(around + 1) * math.tau / around, np.arange(across + 1) * math.tau / across, indexing="ij"
        )
        r = radius + tube * np.cos(v)
        p = np.stack([r * np.cos(u), r * np.sin(u), tube * np.sin(v)], axis=-1)
        corners = np.stack([p[:-1, :-1], p[1:, :-1], p[1:, 1:], p[:-1, 1:]], axis=2).reshape(-1, 4, 3)
        um, vm = u[:-1, :-1] + math.pi / around, v[:-1, :-1] + math.pi / across
        normals = np.stack([np.cos(vm) * np.cos(um), np.cos(vm) * np.sin(um), np.sin(vm)], axis=-1).reshape(-1, 3)
        band = np.where((np.indices(um.shape)[0] // 2) % 2, 1.0, 0.72).reshape(-1, 1)
        return cls(corners, normals, np.array(color) * band)

    @classmethod
    def crystal(cls, radius: float, height: float, sides: int, color: Color) -> Mesh:
        angle = np.arange(sides) * math.tau / sides
        rim = np.stack([radius * np.cos(angle), np.zeros(sides), radius * np.sin(angle)], axis=-1)
        after = np.roll(rim, -1, axis=0)
        tips = [np.broadcast_to(np.array([0.0, y, 0.0]), rim.shape) for y in (height, -height * 0.8)]
        corners = np.concatenate([np.stack([rim, after, tip], axis=1) for tip in tips])
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals *= np.sign((normals * corners.mean(axis=1)).sum(axis=1))[:, None]
        normals /= np.linalg.norm(normals, axis=1)[:, None]
        return cls(corners, normals, np.broadcast_to(np.array(color), normals.shape))

    def paint(
        self,
        canvas: Pixels,
        camera: Camera,
        at: tuple[float, float, float],
        turn: tuple[float, float],
        palette: Palette,
    ) -> None:
        """Draw at world point `at`, turned by (about x, about y) radians."""
        rotation = _turn(*turn)
        corners, normals = self.corners @ rotation.T, self.normals @ rotation.T
        middles = corners.mean(axis=1)
        eye = np.array([camera.x - at[0], 1.6 - at[1], at[2]])
        seen = np.flatnonzero(((eye - middles) * normals).sum(axis=1) > 0)
        order = seen[np.argsort(middles[seen, 2])]
        x, y = camera.project(at[0], at[1], at[2])
        scale = camera.focal / (at[2] - corners[order, :, 2])
        flat = np.stack([x + corners[order, :, 0] * scale, y - corners[order, :, 1] * scale], axis=-1)
        colors = shade_faces(normals[order], self.colors[order], light_direction(palette), palette)
        _fill(canvas, flat, colors)


def box(
    canvas: Pixels, camera: Camera, at: tuple[float, float, float], size: tuple[float, float, float], color: Color
) -> None:
    """An upright box standing at (x, y, z) = middle of its front edge; its front, its top and the side that shows."""
    (x, y, z), (wide, tall, deep) = at, size
    corner = {
        (i, j, k): camera.project(x + (i - 0.5) * wide, y + j * tall, z + k * deep)
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    }
    side = 1 if x + wide / 2 < camera.x else 0
    faces = [((side, 0, 0), (side, 1, 0), (side, 1, 1), (side, 0, 1)), ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0))]
    gains = [0.6, 0.9]
    if y + tall < 1.6:
        faces.append(((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)))
        gains.append(1.25)
    for face, gain in zip(faces, gains, strict=True):
        cv2.fillConvexPoly(canvas, fixed(np.array([corner[c] for c in face])), lit(color, gain), cv2.LINE_AA, SHIFT)


@dataclass(frozen=True, slots=True)
class Ball:
    """A striped ball that hops across the square and turns: stripes through a cached sphere map under cached light."""

    z: float
    speed: float
    span: float
    phase: float
    radius: int
    """Pixels."""
    longitude: Array
    latitude: Array
    light: Array
    keep: Pixels
    texture: Pixels
    shade: Layer = field(repr=False)

    @classmethod
    def build(cls, focal: float, z: float, palette: Palette, rng: np.random.Generator) -> Ball:
        radius = max(3, round(0.34 * focal / z))
        side = 2 * radius + 3
        y, x = (np.mgrid[0:side, 0:side].astype(np.float32) - radius - 1) / radius
        r = np.hypot(x, y)
        depth = np.sqrt(np.clip(1 - r * r, 0, 1))
        lean = 0.4
        tx, ty = x * math.cos(lean) - y * math.sin(lean), x * math.sin(lean) + y * math.cos(lean)
        normals = np.stack([x, -y, depth], axis=-1).reshape(-1, 3)
        light = shade_faces(normals, np.full((1, 3), 200.0), light_direction(palette), palette).reshape(side, side, 3)
        alpha = np.clip((1 - r) * radius + 0.5, 0, 1)[..., None]
        stripe = [np.array(COATS[i]) for i in rng.permutation(len(COATS))[:3]] + [np.array((240, 236, 226))]
        texture = np.repeat(np.array([stripe[i % 4] for i in range(8)], np.float32)[None], 32, axis=0)
        texture = (
            cv2.resize(texture, (128, 32), interpolation=cv2.INTER_NEAREST)
            * (0.9 + 0.1 * noise(rng, 32, 128, 16))[..., None]
        )
        texture[:3] = texture[-3:] = 235
        return cls(
            z=z,
            speed=2.3,
            span=9.0,
            phase=float(rng.uniform(0, 9)),
            radius=radius,
            longitude=(np.arctan2(tx, depth) / math.tau * 128).astype(np.float32),
            latitude=((np.arcsin(np.clip(ty, -1, 1)) / math.pi + 0.5) * 31).astype(np.float32),
            light=np.clip(light * alpha, 0, 255).astype(np.uint8),
            keep=np.repeat((255 - 255 * alpha).astype(np.uint8), 3, axis=2),
            texture=np.ascontiguousarray(np.hstack([texture] * 3).clip(0, 255).astype(np.uint8)),
            shade=shadow(2.4 * radius, 0.8 * radius, 0.5),
        )

    def paint(self, canvas: Pixels, camera: Camera, t: float) -> None:
        way = (t * self.speed + self.phase) % (2 * self.span)
        x = way - self.span / 2 if way < self.span else 1.5 * self.span - way
        hop = abs(math.sin(t * 3.4 + self.phase))
        ground = camera.project(x, 0.0, self.z)
        self.shade.over(canvas, ground[0] - self.shade.size[0] / 2, ground[1] - self.shade.size[1] / 2)
        px, py = camera.project(x, 0.34 + 1.15 * hop, self.z)
        turned = cv2.remap(
            self.texture, self.longitude + np.float32(128 + (t * 46) % 128), self.latitude, cv2.INTER_LINEAR
        )
        color = cv2.multiply(turned, self.light, scale=1 / 200)
        cv2.min(color, 255 - self.keep, dst=color)
        Layer(color, self.keep).over(canvas, px - self.radius - 1, py - self.radius - 1)
