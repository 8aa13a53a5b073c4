"""What is far away: sky, ridge, skyline with a ticker, and the floor that mirrors them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bridge.frame import Pixels
from bridge.sources.art.blend import Array, Layer, columns, lit, mix, noise
from bridge.sources.art.camera import EYE, Camera
from bridge.sources.art.palette import Palette

TILE_M = 8.0
"""The floor's texture repeats after this many metres."""
TEXTURE = 512
CAPTION = "livelatent  *  paint what moves  *  frames in, pictures out  *  turn a knob, see it on the next frame  *  "


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Everything behind the actors, drawn once; `paint` slides it by depth."""

    sky: Pixels
    clouds: Layer
    ridge: Layer
    skyline: Layer
    floor: Pixels
    floor_far: Pixels
    haze: Layer
    mirror: Pixels
    """How strongly each floor pixel mirrors, uint8 (rows, width, 3)."""
    ticker: Pixels
    board: tuple[int, int, int, int]
    """The ticker's place in the skyline: x, y, width, height."""
    margin: int
    unit: float

    @classmethod
    def build(cls, width: int, height: int, palette: Palette, rng: np.random.Generator) -> Backdrop:
        camera = Camera(width, height, 0.0, 0.0)
        rows = int(camera.horizon) + 1
        unit = camera.focal / 512
        margin = int(48 * unit) + 2
        wide = width + 2 * margin
        skyline, board = _skyline(rows, wide, unit, palette, rng)
        floor = _floor(palette, rng)
        far = cv2.resize(cv2.GaussianBlur(floor, (0, 0), 9), (TEXTURE // 8, TEXTURE // 8), interpolation=cv2.INTER_AREA)
        below = height - rows
        return cls(
            sky=_sky(rows, wide, palette),
            clouds=_clouds(rows, wide + width, palette, rng),
            ridge=_ridge(rows, wide, unit, palette, rng),
            skyline=skyline,
            floor=floor,
            floor_far=far,
            haze=_haze(below, width, palette),
            mirror=_mirror(below, width, rng),
            ticker=_ticker(board[3], palette),
            board=board,
            margin=margin,
            unit=unit,
        )

    def paint(self, canvas: Pixels, camera: Camera, t: float) -> None:
        """Fill `canvas` (height, width, 3), all of it."""
        rows, width = self.sky.shape[0], camera.width
        top = canvas[:rows]
        x = self.margin - camera.turn
        top[:] = columns(self.sky, x, width)
        drift = (width / 2) * (1 - np.cos(t * 0.035))
        self.clouds.window(self.margin - camera.turn + drift, width).over(top, 0, 0)
        self.ridge.window(x + camera.x * 4 * self.unit, width).over(top, 0, 0)
        slide = x + camera.x * 12 * self.unit
        self.skyline.window(slide, width).over(top, 0, 0)
        self._show_ticker(top, slide, t)
        self._paint_floor(canvas, camera, rows)

    def _show_ticker(self, top: Pixels, slide: float, t: float) -> None:
        bx, by, bw, bh = self.board
        left = bx - slide
        x0, x1 = max(0, round(left)), min(top.shape[1], round(left) + bw)
        if x1 - x0 < 4:
            return
        text = self.ticker
        start = int(t * 70 * self.unit) % (text.shape[1] // 2) + x0 - round(left)
        top[by : by + bh, x0:x1] = text[:, start : start + x1 - x0]

    def _paint_floor(self, canvas: Pixels, camera: Camera, rows: int) -> None:
        below = canvas[rows:]
        split = max(1, below.shape[0] // 5)
        for texture, first, last in ((self.floor_far, 0, split), (self.floor, split, below.shape[0])):
            matrix = _floor_matrix(camera, rows + first, texture.shape[0] / TILE_M)
            below[first:last] = cv2.warpPerspective(
                texture,
                matrix,
                (camera.width, last - first),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
        self._reflect(canvas, below, rows)
        self.haze.over(below, 0, 0)

    def _reflect(self, canvas: Pixels, below: Pixels, rows: int) -> None:
        depth = min(rows, below.shape[0])
        image = cv2.flip(canvas[rows - depth : rows], 0)
        cv2.multiply(image, self.mirror[:depth], dst=image, scale=1 / 255)
        part = below[:depth]
        cv2.multiply(part, 255 - self.mirror[:depth], dst=part, scale=1 / 255)
        cv2.add(part, image, dst=part)


def _floor_matrix(camera: Camera, first_row: int, per_metre: float) -> Array:
    """Picture pixel (x, y from `first_row` on) to texture pixel, homogeneous 3×3.

    A pixel d rows below the horizon shows the floor at X = camera.x + (x − centre)·EYE/d, Z = focal·EYE/d.
    """
    below = first_row + 0.5 - camera.horizon
    world = np.array(
        [
            [EYE, camera.x, -camera.centre * EYE + camera.x * below],
            [0.0, 0.0, camera.focal * EYE],
            [0.0, 1.0, below],
        ]
    )
    texture: Array = np.diag([per_metre, per_metre, 1.0]) @ world
    return texture


def _sky(rows: int, width: int, palette: Palette) -> Pixels:
    y = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    sky = np.array(palette.zenith) * (1 - y**0.9) + np.array(palette.sky) * y**0.9
    sky = np.broadcast_to(sky, (rows, width, 3)).astype(np.float32)
    yy, xx = np.mgrid[0:rows, 0:width].astype(np.float32)
    sun_x, sun_y = palette.sun[0] * width, palette.sun[1] * rows / 0.55
    r = np.hypot(xx - sun_x, yy - sun_y) / rows
    halo = (0.75 * np.exp(-((r / 0.42) ** 1.3)))[..., None]
    sky = sky * (1 - halo) + np.array(palette.glow) * halo
    disc = np.clip((0.075 - r) * rows / 1.5, 0, 1)[..., None]
    sky = sky * (1 - disc) + np.minimum(255, np.array(palette.glow) * 0.3 + 190) * disc
    painted: Pixels = np.clip(sky, 0, 255).astype(np.uint8)
    return painted


def _clouds(rows: int, width: int, palette: Palette, rng: np.random.Generator) -> Layer:
    streaks = noise(rng, rows, width, 3.0)
    streaks = cv2.GaussianBlur(streaks, (0, 0), sigmaX=rows * 0.03 + 0.1, sigmaY=rows * 0.006 + 0.1)
    y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    body = np.clip((streaks - 0.46) * 4.5, 0, 1) * np.clip(1.15 - y, 0, 1)
    shade = np.clip(1.15 - 0.5 * np.roll(streaks, -rows // 16, axis=0), 0.6, 1.1)[..., None]
    return Layer.of(np.array(palette.cloud) * shade, 0.85 * body)


def _ridge(rows: int, width: int, unit: float, palette: Palette, rng: np.random.Generator) -> Layer:
    color = np.zeros((rows, width, 3), np.float32)
    alpha = np.zeros((rows, width), np.float32)
    y = np.arange(rows, dtype=np.float32)[:, None]
    for depth in range(2):
        line = noise(rng, 8, width, 3.0 + 3 * depth, 6)[4]
        crest = rows - unit * (60 + 110 * line) * (1.0 - 0.4 * depth)
        cover = np.clip(y - crest + 0.5, 0, 1)
        fog = np.clip((y - crest) / (rows - crest + 1), 0, 1)[..., None]
        tone = np.array(mix(mix(palette.ridge, palette.sky, 0.4), palette.ridge, float(depth)))
        rock = (noise(rng, rows, width, 24.0, 4)[..., None] - 0.5) * 26
        shade = (tone + rock) * (1 - 0.5 * fog) + np.array(palette.sky) * 0.5 * fog
        color = color * (1 - cover[..., None]) + shade * cover[..., None]
        alpha = np.maximum(alpha, cover)
    return Layer.of(color, alpha)


def _skyline(
    rows: int, width: int, unit: float, palette: Palette, rng: np.random.Generator
) -> tuple[Layer, tuple[int, int, int, int]]:
    """Two rows of buildings with windows, and the place of the ticker on the broadest of them."""
    color = np.zeros((rows, width, 3), np.float32)
    alpha = np.zeros((rows, width), np.uint8)
    for near in (False, True):
        x = -20 * unit
        while x < width:
            wide = unit * rng.uniform(24, 62)
            tall = unit * (rng.uniform(60, 150) if not near else rng.uniform(22, 70))
            _building(color, alpha, (x, rows - tall, wide), unit, palette, rng, near)
            x += wide * (1.0 if not near else rng.uniform(1.0, 1.7))
    grain = (rng.random((rows, width, 1), dtype=np.float32) - 0.5) * 14
    board_w, board_h = int(150 * unit) + 4, int(24 * unit) + 2
    bx, by = int(width * 0.16), int(rows - 74 * unit)
    frame = max(1, round(3 * unit))
    cv2.rectangle(color, (bx - frame, by - frame), (bx + board_w + frame, by + board_h + frame), (24, 24, 32), -1)
    cv2.rectangle(alpha, (bx - frame, by - frame), (bx + board_w + frame, rows), 255, -1)
    legs = lit(palette.wall, 0.5)
    cv2.rectangle(color, (bx - frame, by + board_h + frame), (bx + board_w + frame, rows), legs, -1)
    return Layer.of(color + grain, alpha / 255.0), (bx, by, board_w, board_h)


def _building(
    color: Array,
    alpha: Array,
    box: tuple[float, float, float],
    unit: float,
    palette: Palette,
    rng: np.random.Generator,
    near: bool,
) -> None:
    rows = color.shape[0]
    x0, y0, x1 = round(box[0]), round(box[1]), round(box[0] + box[2])
    wall = lit(mix(palette.wall, palette.sky, 0.1 if near else 0.38), float(rng.uniform(0.8, 1.2)))
    edge = round(x0 + (x1 - x0) * 0.72)
    cv2.rectangle(color, (x0, y0), (x1, rows), lit(wall, 1.12), -1)
    cv2.rectangle(color, (edge, y0), (x1, rows), lit(wall, 0.72), -1)
    cv2.rectangle(alpha, (x0, y0), (x1, rows), 255, -1)
    if rng.random() < 0.4:
        mast = round((x0 + x1) / 2)
        cv2.line(color, (mast, y0), (mast, round(y0 - 26 * unit)), wall, max(1, round(2 * unit)))
        cv2.line(alpha, (mast, y0), (mast, round(y0 - 26 * unit)), 255, max(1, round(2 * unit)))
    step = max(3, round(7.5 * unit))
    for wy in range(y0 + step, rows - step // 2, step):
        for wx in range(x0 + step // 2, edge - step // 2, step):
            on = rng.random() < 0.25 + 0.35 * palette.lamps
            glass = mix(lit(wall, 0.55), palette.window, float(rng.uniform(0.55, 1)) if on else 0.1)
            cv2.rectangle(color, (wx, wy), (wx + step // 2 - 1, wy + round(step * 0.55) - 1), glass, -1)


def _floor(palette: Palette, rng: np.random.Generator) -> Pixels:
    """Worn paving, tileable, TEXTURE × TEXTURE for TILE_M × TILE_M metres."""
    cells = 8
    tint = rng.normal(0, 0.07, (cells, cells)).astype(np.float32)
    checker = (np.indices((cells, cells)).sum(axis=0) % 2).astype(np.float32)
    side = TEXTURE // cells
    large = np.kron(checker, np.ones((side, side), np.float32))[..., None]
    gain = 1 + np.kron(tint, np.ones((side, side), np.float32))[..., None]
    base = np.array(palette.floor) * large + np.array(palette.floor_dark) * (1 - large)
    wrapped = np.pad(rng.normal(0, 1, (TEXTURE, TEXTURE)).astype(np.float32), 4, mode="wrap")
    grain = cv2.GaussianBlur(wrapped, (0, 0), 1.2)[4:-4, 4:-4]
    stone = (base * gain + grain[..., None] * 26).astype(np.float32)
    for line in range(0, TEXTURE, side):
        stone[line : line + 2] *= 0.62
        stone[:, line : line + 2] *= 0.62
        stone[line + 2] *= 1.12
    tile: Pixels = np.clip(stone, 0, 255).astype(np.uint8)
    return tile


def _haze(rows: int, width: int, palette: Palette) -> Layer:
    """Distance melts into the sky's colour, and the corners near the viewer darken."""
    y, x = np.mgrid[0:rows, 0:width].astype(np.float32)
    y /= max(1, rows)
    far = 0.85 * np.exp(-y / 0.09)
    near = 0.42 * np.clip(y - 0.25, 0, 1) * (0.55 + np.abs(x / width - palette.sun[0]))
    alpha = far + near - far * near
    weight = (far / np.maximum(alpha, 1e-4))[..., None]
    color = np.array(mix(palette.sky, palette.glow, 0.35)) * weight + np.array(lit(palette.zenith, 0.3)) * (1 - weight)
    return Layer.of(color, alpha)


def _mirror(rows: int, width: int, rng: np.random.Generator) -> Pixels:
    y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    puddles = np.clip(noise(rng, rows, width, 3.0, 4) * 2.4 - 0.7, 0.25, 1)
    strength = 150 * np.exp(-y / 0.5) * puddles
    return np.repeat(np.clip(strength, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _ticker(height: int, palette: Palette) -> Pixels:
    """The caption as a strip, its beginning repeated at its end so that it can be cut anywhere."""
    face, scale = cv2.FONT_HERSHEY_DUPLEX, height / 34
    thick = max(1, round(height / 18))
    (length, _), _ = cv2.getTextSize(CAPTION, face, scale, thick)
    strip = np.full((height, length, 3), (16, 14, 26), np.uint8)
    cv2.putText(strip, CAPTION, (0, round(height * 0.72)), face, scale, (255, 176, 64), thick, cv2.LINE_AA)
    return np.ascontiguousarray(np.hstack([strip, strip]))
