"""Procedural scenes: what pocket's networks see instead of a data set.

A scene is layers of masks. Every mask, whatever its shape, gets the same treatment (albedo, surface texture, shading
from a height that is guessed from the mask, a cast shadow), and every finished picture the same camera (focus, colour
cast, exposure, vignette, sensor noise), so that its statistics come near a photograph's without one being used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pocket import figures, people

Picture = NDArray[np.float32]
"""(h, w, 3), RGB, 0..1."""
Mask = NDArray[np.float32]
"""(h, w), 0..1."""

_BANK = 512


@cache
def noise_bank() -> tuple[Mask, ...]:
    """Tileable noise of several slopes, (512, 512) each, zero mean, unit deviation."""
    rng = np.random.default_rng(7)
    fy, fx = np.meshgrid(np.fft.fftfreq(_BANK), np.fft.rfftfreq(_BANK), indexing="ij")
    out = []
    for slope, squeeze in ((0.7, 1.0), (1.0, 1.0), (1.3, 1.0), (1.6, 1.0), (1.0, 6.0), (1.2, 0.15), (2.0, 1.0)):
        radius = np.sqrt((fy * squeeze) ** 2 + fx**2)
        radius[0, 0] = np.inf
        spectrum = np.fft.rfft2(rng.standard_normal((_BANK, _BANK))) / radius**slope
        field_ = np.fft.irfft2(spectrum, s=(_BANK, _BANK))
        out.append((field_ / field_.std()).astype(np.float32))
    return tuple(out)


@dataclass
class Canvas:
    """A picture being painted."""

    size: int
    rng: np.random.Generator
    pixels: Picture = field(init=False)
    light: tuple[float, float] = field(init=False)
    base: float = field(init=False)

    def __post_init__(self) -> None:
        angle = self.rng.uniform(0, 2 * np.pi)
        self.light = (float(np.cos(angle)), float(-abs(np.sin(angle))))
        self.base = float(self.rng.uniform(0, 1))
        self.pixels = np.full((self.size, self.size, 3), 0.5, np.float32)

    def texture(self, scale: float | None = None) -> Mask:
        """A piece of the noise bank at a random place, zoom and turn."""
        bank = noise_bank()[int(self.rng.integers(7))]
        zoom = scale or float(np.exp(self.rng.uniform(np.log(0.3), np.log(2.5))))
        angle = self.rng.uniform(0, 2 * np.pi)
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        shift = self.rng.uniform(0, _BANK, 2)
        matrix = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(bank, matrix, (self.size, self.size), flags=flags, borderMode=cv2.BORDER_WRAP), np.float32
        )

    def colour(self, spread: float = 0.35) -> NDArray[np.float32]:
        """A surface colour near the scene's own hue, RGB."""
        hue = (self.base + self.rng.normal(0, spread)) % 1.0
        saturation = float(np.clip(self.rng.beta(1.4, 2.2), 0, 0.95))
        value = float(self.rng.uniform(0.08, 0.98))
        hsv = np.array([[[hue * 360, saturation, value]]], np.float32)
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0], np.float32)

    def paint(self, mask: Mask, colour: NDArray[np.float32], relief: float | None = None, grain: float = -1) -> None:
        """Lays a surface of that colour where the mask is, lit from the scene's side."""
        rng = self.rng
        relief = float(rng.uniform(0, 1.2)) if relief is None else relief
        grain = float(rng.choice([0.0, rng.uniform(0, 0.12), rng.uniform(0.05, 0.35)])) if grain < 0 else grain
        tone = np.ones_like(mask)
        if relief > 0.05:
            tone += relief * self._slope(mask)
        if grain > 0.01:
            tone += grain * self.texture()
        surface = np.clip(tone, 0.05, 2.5)[..., None] * colour
        if rng.random() < 0.2:
            surface += 0.5 * np.clip(tone - 1.25, 0, 1)[..., None]
        self.pixels += mask[..., None] * (surface - self.pixels)

    def _slope(self, mask: Mask) -> Mask:
        sigma = max(2.0, float(np.sqrt(mask.sum())) / 5)
        small = cv2.resize(mask, (64, 64), interpolation=cv2.INTER_AREA)
        height = cv2.GaussianBlur(small, (0, 0), max(0.8, sigma * 64 / self.size))
        gx, gy = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
        lit = -(gx * self.light[0] + gy * self.light[1])
        peak = float(np.abs(lit).max()) or 1.0
        return np.asarray(cv2.resize(lit / peak, (self.size, self.size), interpolation=cv2.INTER_CUBIC), np.float32)

    def shadow(self, mask: Mask, depth: float | None = None) -> None:
        """Darkens what lies behind the mask, away from the light."""
        rng, size = self.rng, self.size
        depth = float(rng.uniform(0.1, 0.6)) if depth is None else depth
        reach = size * rng.uniform(0.01, 0.08)
        matrix = np.array([[1, 0, -self.light[0] * reach], [0, 1, -self.light[1] * reach]], np.float32)
        moved = cv2.warpAffine(mask, matrix, (size, size))
        soft = cv2.GaussianBlur(moved, (0, 0), float(rng.uniform(1, size / 25)))
        self.pixels *= 1 - depth * soft[..., None]


def gradient(canvas: Canvas) -> None:
    """A smooth ramp between two or three colours, with a little texture."""
    rng, size = canvas.rng, canvas.size
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    ramp = np.clip(0.5 + (np.cos(angle) * x + np.sin(angle) * y) * rng.uniform(0.6, 1.4), 0, 1)[..., None]
    canvas.pixels = canvas.colour() * (1 - ramp) + canvas.colour() * ramp
    if rng.random() < 0.6:
        canvas.pixels *= 1 + rng.uniform(0.02, 0.25) * canvas.texture()[..., None]


def landscape(canvas: Canvas) -> None:
    """Sky with clouds, then ridges that darken towards the viewer, sometimes houses."""
    rng, size = canvas.rng, canvas.size
    gradient(canvas)
    sky = np.array([0.5, 0.68, 0.95], np.float32) * rng.uniform(0.4, 1.1)
    if rng.random() < 0.6:
        ramp = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
        canvas.pixels = np.broadcast_to(sky * (1 - ramp) + canvas.colour() * ramp, (size, size, 3)).copy()
    clouds = np.clip(canvas.texture(0.5) * 0.5, 0, 1)[..., None] * rng.uniform(0, 0.8)
    canvas.pixels += clouds * (0.95 - canvas.pixels)
    for level in np.sort(rng.uniform(0.3, 0.95, int(rng.integers(1, 5)))):
        mask = figures.ridge(size, rng, float(level))
        canvas.paint(mask, canvas.colour(), relief=0.2)
        if rng.random() < 0.35:
            for building in figures.houses(size, rng, float(level)):
                canvas.paint(building, canvas.colour(), relief=0.1)


def room(canvas: Canvas) -> None:
    """Walls and a floor that meet at a corner, a window of light, a picture or a shelf."""
    rng, size = canvas.rng, canvas.size
    wall = canvas.colour()
    for plane, face in enumerate(figures.planes(size, rng)):
        canvas.paint(face, wall * rng.uniform(0.5, 1.2) if plane else wall, relief=0.0)
    for _ in range(int(rng.integers(1, 4))):
        pane = figures.box(size, rng)
        canvas.paint(pane, canvas.colour(), relief=0.1)
    glow = cv2.GaussianBlur(figures.box(size, rng), (0, 0), float(size * rng.uniform(0.02, 0.12)))
    canvas.pixels += glow[..., None] * rng.uniform(0, 0.5)


def surface(canvas: Canvas) -> None:
    """Two materials mixed by noise, stripes, checks or bricks."""
    mask = figures.pattern(canvas.size, canvas.rng)
    if canvas.rng.random() < 0.5:
        mask = np.clip(0.5 + canvas.texture() * canvas.rng.uniform(0.3, 3), 0, 1).astype(np.float32)
    canvas.paint(np.ones_like(mask), canvas.colour())
    canvas.paint(mask, canvas.colour())


def clutter(canvas: Canvas) -> None:
    """Everyday shapes, large behind small, with shadows."""
    rng = canvas.rng
    count = int(rng.integers(2, 11))
    for _ in range(count):
        mask = figures.shape(canvas.size, rng)
        if rng.random() < 0.6:
            canvas.shadow(mask)
        if rng.random() < 0.15:
            mask = mask * np.float32(rng.uniform(0.3, 0.8))
        canvas.paint(mask, canvas.colour())


def crowd(canvas: Canvas) -> None:
    """One to four standing figures in clothes."""
    rng = canvas.rng
    for _ in range(int(rng.integers(1, 5))):
        skin = people.skin(rng)
        for part, bare in people.person(canvas.size, rng):
            canvas.paint(part, skin if bare else canvas.colour(), relief=0.7)


def portrait(canvas: Canvas) -> None:
    """A head and shoulders, human or animal."""
    for part, colour, relief in people.face(canvas.size, canvas.rng):
        if relief > 0.5:
            canvas.shadow(part, 0.2)
        canvas.paint(part, canvas.colour() if colour is None else colour, relief=relief)


def lines(canvas: Canvas) -> None:
    """Branches, cables, rings and lettering."""
    rng = canvas.rng
    for _ in range(int(rng.integers(1, 5))):
        maker: Callable[[int, np.random.Generator], Mask] = (
            figures.branch,
            figures.cables,
            figures.rings,
            figures.text,
        )[int(rng.integers(4))]
        canvas.paint(maker(canvas.size, rng), canvas.colour(0.5), relief=0.3)


def camera(canvas: Canvas) -> Picture:
    """What a lens and a sensor make of it: light, focus, exposure, cast, noise."""
    rng, size, out = canvas.rng, canvas.size, canvas.pixels
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    pool = np.exp(-((x - rng.uniform(-0.5, 0.5)) ** 2 + (y - rng.uniform(-0.5, 0.5)) ** 2) / rng.uniform(0.1, 1.2))
    out = out * (1 + rng.uniform(0, 0.9) * (pool[..., None] - 0.5))
    out = np.clip(out * rng.uniform(0.7, 1.3), 0, 1) ** rng.uniform(0.7, 1.5)
    out = out * rng.uniform(0.85, 1.12, 3)
    out = out * rng.uniform(0.8, 1.0) + rng.uniform(0, 0.1)
    if rng.random() < 0.5:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 1.1)))
    if rng.random() < 0.6:
        out = out + rng.normal(0, rng.uniform(0.002, 0.025), out.shape)
    return np.asarray(np.clip(out, 0, 1), np.float32)


def night(canvas: Canvas) -> None:
    """Lights of all sizes and colours on almost nothing: stars, a city from afar."""
    rng, size = canvas.rng, canvas.size
    canvas.pixels *= np.float32(rng.uniform(0.05, 0.35))
    for _ in range(int(rng.integers(100, 700))):
        x, y = (int(v) for v in rng.integers(0, size, 2))
        radius = float(size * rng.uniform(0.002, 0.006) * rng.pareto(3.0) + 0.6)
        glow = np.asarray(canvas.colour(0.4), np.float32) * rng.uniform(0.3, 1.5)
        cv2.circle(canvas.pixels, (x, y), max(1, round(radius)), [float(v) for v in glow], -1, cv2.LINE_AA)
    canvas.pixels = cv2.GaussianBlur(canvas.pixels, (0, 0), float(rng.uniform(0.5, 1.2)))


def harsh(picture: Picture, rng: np.random.Generator) -> Picture:
    """Light that photographs have and drawings lack: far too dark or too bright, one colour over everything, none."""
    out = np.asarray(picture ** np.float32(2.0 ** rng.uniform(-1.2, 1.4)))
    gray = out.mean(2, keepdims=True)
    out = gray + (out - gray) * rng.choice([0.15, rng.uniform(0.5, 2.5)])
    cast = np.array([rng.uniform(0.9, 1.25), rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.7)])
    if rng.random() < 0.5:
        out = out * rng.permutation(cast) if rng.random() < 0.4 else out * cast
    return np.asarray(np.clip(out, 0, 1), np.float32)


BACKGROUNDS = (gradient, landscape, landscape, room, surface)
SUBJECTS = (clutter, clutter, crowd, portrait, portrait, lines)


def scene(seed: int, size: int = 256) -> Picture:
    """The scene with that number: RGB float32 (size, size, 3), 0..1. The same number gives the same picture. One in
    five lies in harsh light or at night."""
    rng = np.random.default_rng([seed, 0x9E37])
    canvas = Canvas(size, rng)
    BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))](canvas)
    if rng.random() < 0.25 and size >= 64:
        soft = float(rng.uniform(1, size / 40))
        canvas.pixels = cv2.GaussianBlur(canvas.pixels, (0, 0), soft)
    for _ in range(int(rng.choice([0, 1, 1, 1, 2, 2, 2, 3]))):
        SUBJECTS[int(rng.integers(len(SUBJECTS)))](canvas)
    if seed % 20 == 9:
        night(canvas)
        return camera(canvas)
    out = camera(canvas)
    return harsh(out, rng) if seed % 5 == 4 else out
