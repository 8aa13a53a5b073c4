"""Fixed grids and local operators that styles are made of.

All periods divide 32 px, and none but that of plain blocks is below 16: the decoder enlarges latents of 8 px by
repeating them, so from latents that are all alike it can only make a flat surface. A pattern must alternate from latent
to latent.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Picture = NDArray[np.float32]


def _unit(period: int) -> tuple[Plane, Plane]:
    """x and y of a 32 px tile in units of `period`, phase 0..1."""
    y, x = np.mgrid[0:32, 0:32].astype(np.float32) + 0.5
    return (x / period) % 1.0, (y / period) % 1.0


def _saw(t: Plane) -> Plane:
    return np.asarray(1 - np.abs(2 * (t % 1) - 1), np.float32)


def _noise(seed: int, sigma: float, squeeze: float = 1.0) -> Plane:
    rng = np.random.default_rng(seed)
    big = np.tile(rng.standard_normal((32, 32)).astype(np.float32), (3, 3))
    big = cv2.GaussianBlur(big, (0, 0), sigmaX=sigma, sigmaY=sigma * squeeze)[32:64, 32:64]
    return np.asarray((big - big.min()) / (big.max() - big.min()), np.float32)


def _stars() -> Plane:
    out = np.zeros((32, 32), np.float32)
    for x, y, size in ((5, 7, 1.0), (21, 3, 0.5), (27, 18, 0.9), (12, 24, 0.6), (17, 13, 0.35)):
        out[y, x] = size
    big = cv2.GaussianBlur(np.tile(out, (3, 3)), (0, 0), 0.8)[32:64, 32:64]
    return np.asarray(np.clip(big * 4, 0, 1), np.float32)


def _streak() -> Plane:
    out = np.zeros((32, 32), np.float32)
    for row, left, long in ((9, 3, 14), (10, 20, 9), (26, 11, 7)):
        out[row : row + 2, left : left + long] = 1
    return out


def _leads() -> Plane:
    x, y = _unit(32)
    near = np.minimum(np.abs(((x + y) % 1) - 0.5), np.abs(((x - y) % 1) - 0.5)) * 32
    return np.asarray(np.clip(1.9 - near, 0, 1), np.float32)


def _grout(period: int) -> Plane:
    x, y = _unit(period)
    near = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) * period
    return np.asarray(np.clip(1.8 - near, 0, 1), np.float32)


def _bevel(period: int) -> Plane:
    x, y = _unit(period)
    return np.asarray(1 - (x + y), np.float32)


def _rule(period: int) -> Plane:
    x, y = _unit(period)
    near = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) * period
    return np.asarray(np.clip(1.2 - near, 0, 1), np.float32)


def _dots() -> Plane:
    """Threshold map of a 45° screen, dots 11 px apart, 0 (first black) to 1."""
    x, y = _unit(16)
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * x) * np.cos(2 * np.pi * y), np.float32)


def _stitch() -> Plane:
    x, y = _unit(16)
    row = np.where(((np.mgrid[0:32, 0:32][1] // 16) % 2) == 0, x + y, x - y)
    across = _saw(np.asarray(row, np.float32))
    ends = np.minimum(1, np.minimum(x, 1 - x) * 8)
    return np.asarray(across * ends, np.float32)


def _caustic() -> Plane:
    x, y = _unit(32)
    a = np.sin(2 * np.pi * (x + 0.18 * np.sin(2 * np.pi * y)))
    b = np.sin(2 * np.pi * (y + 0.22 * np.sin(4 * np.pi * x)))
    return np.asarray(np.exp(-5 * np.abs(a + b)), np.float32)


@cache
def _base(name: str) -> Plane:
    x, y = _unit(16)
    makers = {
        "paper": lambda: _noise(3, 0.9),
        "pools": lambda: _noise(4, 3.5),
        "curtain": lambda: np.repeat(_noise(6, 1.4)[:1], 32, 0),
        "bristle": lambda: _noise(5, 0.7),
        "flicker": lambda: _noise(8, 1.6, 2.5),
        "hatch": lambda: np.clip(_saw(x + y) * 3 - 1.9, 0, 1),
        "cross": lambda: np.clip(_saw(x - y) * 3 - 1.9, 0, 1),
        "dots": _dots,
        "bevel16": lambda: _bevel(16),
        "grout16": lambda: _grout(16),
        "rule32": lambda: _rule(32),
        "rule16": lambda: _rule(16),
        "scan16": lambda: np.clip(6 * np.abs(y - 0.5) - 1.5, 0, 1),
        "tracks": lambda: np.clip(2.2 - np.abs(y - 0.5) * 16, 0, 1),
        "tracks2": lambda: np.clip(2.2 - np.abs(x - 0.5) * 16, 0, 1),
        "pads": lambda: np.clip(4.2 - 16 * np.hypot(x - 0.5, y - 0.5), 0, 1),
        "holes": lambda: np.clip(2.2 - 16 * np.hypot(x - 0.5, y - 0.5), 0, 1),
        "sheen": lambda: np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * (x + y)), np.float32),
        "tape": lambda: np.repeat(((np.arange(32) // 8) % 4 == 1).astype(np.float32)[:, None], 32, 1),
        "streak": _streak,
        "stars": _stars,
        "leads": _leads,
        "stitch": _stitch,
        "canvas": lambda: 0.5 - 0.5 * np.cos(4 * np.pi * x) * np.cos(4 * np.pi * y),
        "caustic": _caustic,
    }
    return np.asarray(makers[name](), np.float32)


@cache
def tile(name: str, height: int, width: int) -> Plane:
    """The named 32 px pattern repeated over (height, width). KeyError for an unknown name."""
    base = _base(name)
    out = np.tile(base, (-(-height // 32), -(-width // 32)))[:height, :width]
    out.flags.writeable = False
    return out


def strokes(slopes: tuple[Plane, Plane], grain: Plane) -> Plane:
    """Grain smeared along the picture's contours (line integral convolution), about −1..1."""
    gx, gy = (cv2.GaussianBlur(s, (0, 0), 4) for s in slopes)
    size = np.sqrt(gx**2 + gy**2) + 1e-4
    vx, vy = -gy / size, gx / size
    calm = np.clip(size / 0.004, 0, 1)
    vx, vy = vx * calm + 0.8 * (1 - calm), vy * calm + 0.6 * (1 - calm)
    h, w = grain.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    total = np.zeros((h, w), np.float32)
    for reach in (-5.0, -3.0, -1.0, 1.0, 3.0, 5.0):
        total += cv2.remap(grain, x + vx * reach, y + vy * reach, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(np.clip((total / 6 - 0.5) * 5, -1, 1), np.float32)


def cells(picture: Picture, period: int, blend: float = 1.0) -> Picture:
    """Means over squares of `period` px, mixed with the picture itself by `blend`."""
    h, w = picture.shape[:2]
    small = cv2.resize(picture, (max(1, w // period), max(1, h // period)), interpolation=cv2.INTER_AREA)
    flat = cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST)
    return np.asarray(picture + (flat - picture) * np.float32(blend), np.float32)


def facets(tone: Plane, levels: int) -> Plane:
    """Tone in hard steps with a soft ramp inside each, 0..1."""
    x = cv2.GaussianBlur(tone, (0, 0), 2.0) * levels
    part = x - np.floor(x)
    return np.asarray((np.floor(x) + 0.35 * part + 0.65 * (part > 0.93) * (part - 0.93) / 0.07) / levels, np.float32)


def rise(heat: Plane, reach: int) -> Plane:
    """Bright places smeared upwards over `reach` px, fading."""
    out, share = heat.copy(), 1.0
    h = len(heat)
    for up in (1, 2, 4, 8, 16):
        if up > reach:
            break
        share = 1 - 1.6 * up / reach
        moved = np.empty_like(out)
        moved[: h - up] = out[up:]
        moved[h - up :] = out[-1:]
        out = np.maximum(out, moved * max(0.35, share))
    return np.asarray(0.5 * heat + 0.5 * out, np.float32)


def ripple(picture: Picture, period: int, size: float) -> Picture:
    """Bent by standing waves of `period` px, `size` px high."""
    h, w = picture.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    dx = size * np.sin(2 * np.pi * y / period)
    dy = 0.5 * size * np.sin(2 * np.pi * x / period)
    return np.asarray(
        cv2.remap(picture, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )


def tear(picture: Picture, period: int, size: int) -> Picture:
    """Two of every four bands of `period`/4 rows moved sideways by `size` px."""
    out = picture.copy()
    band = period // 4
    for top in range(0, picture.shape[0], period):
        out[top + band : top + 2 * band] = np.roll(picture[top + band : top + 2 * band], size, 1)
        out[top + 3 * band : top + period] = np.roll(picture[top + 3 * band : top + period], -size // 2, 1)
    return out


@cache
def _font(lettered: bool) -> Plane:
    """(8, 16, 16): glyphs of growing weight."""
    letters = (
        (0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 24, 24), (0, 24, 24, 0, 24, 24, 0), (0, 36, 24, 126, 24, 36, 0),
        (126, 64, 60, 2, 2, 126, 0), (24, 36, 66, 126, 66, 66, 0), (36, 126, 36, 36, 126, 36, 36),
        (60, 66, 90, 94, 64, 62, 0),
    )  # fmt: skip
    rows = letters if lettered else (
        (0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 8, 0), (0, 0, 8, 0, 8, 0, 0), (0, 0, 8, 28, 8, 0, 0),
        (0, 28, 8, 8, 8, 28, 0), (0, 34, 20, 8, 20, 34, 0), (0, 60, 36, 60, 36, 60, 0), (0, 62, 34, 46, 42, 62, 0),
    )  # fmt: skip
    out = np.zeros((8, 8, 8), np.float32)
    for g, lines in enumerate(rows):
        for r, bits in enumerate(lines):
            out[g, r] = [(bits >> (7 - c)) & 1 for c in range(8)]
    return out.repeat(2, 1).repeat(2, 2)


def glyphs(tone: Plane, lettered: bool = False) -> Plane:
    """Every 16 px square shows the glyph whose weight is nearest its tone, 0..1; of signs, or of letters."""
    h, w = tone.shape
    level = cv2.resize(tone, (max(1, w // 16), max(1, h // 16)), interpolation=cv2.INTER_AREA)
    index = np.clip((level * 9 - 0.8).astype(np.int32), 0, 7)
    out = np.zeros((h, w), np.float32)
    drawn = _font(lettered)[index].transpose(0, 2, 1, 3).reshape(index.shape[0] * 16, index.shape[1] * 16)
    out[: drawn.shape[0], : drawn.shape[1]] = drawn[:h, :w]
    return out
