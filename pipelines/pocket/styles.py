"""What pocket knows by name: every style is a deterministic renderer of a picture.

A style must be learnable by a small convolutional network and must not flicker, so each is a smooth function of the
picture and, where it has a pattern, of a grid fixed to the frame with a period of 16 or 32 px (the steps of the
codec and of the denoiser): never of random numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pipelines.pocket import patterns
from pipelines.pocket.look import Look, Picture, blur, mix, paint, ramp, rgb, step, vivid

Style = Callable[[Look], Picture]
_PALETTE = (
    "#1a1c2c", "#5d275d", "#b13e53", "#ef7d57", "#ffcd75", "#a7f070", "#38b764", "#257179",
    "#29366f", "#3b5dc9", "#41a6f6", "#73eff7", "#f4f4f4", "#94b0c2", "#566c86", "#333c57",
)  # fmt: skip


def _median(picture: Picture, size: int) -> Picture:
    """Median over squares of `size` px."""
    return paint(cv2.medianBlur((np.clip(picture, 0, 1) * 255).astype(np.uint8), size)) / np.float32(255)


def _steep(height: Picture) -> Picture:
    """Slope, per pixel."""
    gx, gy = cv2.Sobel(height, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(height, cv2.CV_32F, 0, 1) / 8
    return np.asarray(np.sqrt(gx**2 + gy**2), np.float32)


def neon(k: Look) -> Picture:
    gx, gy = k.slopes
    hue = (np.arctan2(blur(gy, 3), blur(gx, 3)) / (2 * np.pi) + 0.5 + 0.3 * k.gray) * 360
    glow = cv2.cvtColor(
        np.dstack([hue % 360, np.ones_like(hue), np.ones_like(hue)]).astype(np.float32), cv2.COLOR_HSV2RGB
    )
    tube = np.clip(k.edge * 1.5 - 0.25, 0, 1)
    lit = glow * tube[..., None]
    halo = blur(lit, 3.0) * 0.9 + blur(lit, 9.0) * 0.9
    return paint(rgb("#05030f") + lit * 0.75 + halo + 0.65 * step(k.edge, 0.8, 0.25)[..., None])


def ink(k: Look) -> Picture:
    dry = patterns.strokes(k.slopes, k.grid("bristle"))
    pool = step(blur(k.tone, 1.5), 0.36, 0.06)
    brush = step(blur(k.tone, 1.5) + 0.11 * dry, 0.5, 0.05)
    contour = step(blur(k.edge, 1.1), 0.5, 0.2)
    light = np.minimum(pool, 0.35 + 0.65 * brush) * (1 - contour) * (1 - 0.06 * k.grid("paper"))
    return mix(rgb("#131a3d"), rgb("#f8ecd2"), paint(light))


def watercolour(k: Look) -> Picture:
    flat = blur(patterns.ripple(_median(k.soft, 11), 32, 2.5), 1.0)
    hue = flat / (flat.max(2, keepdims=True) + 0.08)
    pigment = np.clip(vivid(hue, 2.6), 0.12, 1)
    dose = paint(np.clip(1.1 - 1.15 * blur(k.tone, 2), 0, 1)) * (1 - 0.35 * (k.grid("pools") - 0.5))
    rim = step(blur(k.edge, 0.8), 0.35, 0.3) * (1 - step(blur(k.tone, 3), 0.72, 0.15))
    wash = pigment ** (0.25 + 1.9 * dose + 0.9 * rim)[..., None]
    white = step(blur(k.tone, 3), 0.66, 0.14)
    return paint(mix(wash, rgb("#fffdf6"), 0.9 * white) * (1 - 0.13 * k.grid("paper"))[..., None])


def oil(k: Look) -> Picture:
    flat = _median(k.rgb, 9)
    brush = patterns.strokes(k.slopes, k.grid("bristle"))
    ridge = brush - np.roll(brush, (2, 2), (0, 1))
    warm = vivid(flat, 2.0) * rgb("#fff0d0") + 0.07 * rgb("#4030a0")
    body = warm * (1 + 0.42 * brush[..., None]) + 0.16 * ridge[..., None] + 0.2 * (k.grid("canvas") - 0.5)[..., None]
    return paint(body + 0.1 * k.relief[..., None])


def pencil(k: Look) -> Picture:
    tone = blur(k.tone, 1.0)
    one = 1 - k.grid("hatch") * (1 - step(tone, 0.5, 0.2))
    two = 1 - k.grid("cross") * (1 - step(tone, 0.28, 0.16))
    paper = 0.96 - 0.5 * (1 - one) - 0.4 * (1 - two) - 0.75 * step(k.line, 0.35, 0.35)
    return paint(np.clip(paper, 0.12, 1)[..., None] * rgb("#fbfaf5"))


def charcoal(k: Look) -> Picture:
    smear = patterns.strokes(k.slopes, k.grid("bristle"))
    tone = blur(k.tone, 2.0) * 1.25 - 0.22 + 0.16 * smear
    tone = step(tone, 0.45, 0.5) + 0.24 * (k.grid("hatch") - 0.5) - 0.7 * blur(k.edge, 1.5) + 0.1
    return paint(np.clip(tone, 0.03, 0.9)[..., None] * rgb("#d8d0c4"))


def halftone(k: Look) -> Picture:
    dots = k.grid("dots")
    tone = 1 - blur(k.tone, 1.5) + 0.3 * (blur(k.tone, 6) - k.tone)
    black = step(paint(tone * 1.15 + 0.25 * k.line - dots), 0.0, 0.09)
    return mix(rgb("#f7e9c8"), rgb("#e0243c"), black)


def comic(k: Look) -> Picture:
    flat = vivid(blur(_median(k.soft, 7), 1.0), 2.6)
    level = blur(k.tone, 1.8)
    bright = 0.4 + 0.35 * step(level, 0.34, 0.04) + 0.35 * step(level, 0.58, 0.04)
    hue = np.clip(flat / (flat.max(2, keepdims=True) + 0.05), 0, 1)
    lit = mix(hue * bright[..., None], rgb("#fff6c0"), 0.85 * step(level, 0.7, 0.05))
    dots = 1 - 0.55 * step(k.grid("dots"), 0.5, 0.14) * (1 - step(level, 0.58, 0.05)) * step(level, 0.3, 0.05)
    lines = 1 - np.maximum(step(blur(k.edge, 1.0), 0.5, 0.14), 1 - step(level, 0.2, 0.05))
    return paint(lit * (dots * lines)[..., None])


def mosaic(k: Look) -> Picture:
    cell = patterns.cells(vivid(k.rgb, 1.9), 16, blend=0.72)
    return paint(cell * (1 + 0.28 * k.grid("bevel16"))[..., None] * (1 - 0.8 * k.grid("grout16"))[..., None] + 0.02)


def pixel(k: Look) -> Picture:
    cell = np.clip(patterns.cells(vivid(k.rgb, 1.5) * 0.8 + 0.2 * k.tone[..., None], 8), 0, 1)
    table = np.stack([rgb(code) for code in _PALETTE])
    off = ((cell[..., None, :] - table) ** 2 * rgb("#99ff77")).sum(-1)
    near = np.exp(-60 * (off - off.min(-1, keepdims=True)))
    return paint((near / near.sum(-1, keepdims=True)) @ table)


def thermal(k: Look) -> Picture:
    return ramp(blur(k.tone, 1.5), "#07006b", "#3a00c8", "#b000b8", "#ff3a20", "#ffb000", "#fffbc0")


def xray(k: Look) -> Picture:
    bone = np.clip((1 - blur(k.tone, 1.5)) ** 1.6 * 0.75 + 0.55 * blur(k.edge, 1.2), 0, 1)
    return ramp(bone, "#00060c", "#08304a", "#4f9cc0", "#d8f6ff")


def blueprint(k: Look) -> Picture:
    paper = rgb("#123f9c") * (0.85 + 0.3 * blur(k.gray, 6))[..., None]
    ruled = np.maximum(0.3 * k.grid("rule32"), 0.12 * k.grid("rule16"))
    return mix(paper, rgb("#eaf4ff"), np.clip(ruled + step(k.line, 0.3, 0.3), 0, 1))


def gold(k: Look) -> Picture:
    metal = np.clip(0.42 + 0.42 * k.relief + 0.35 * (k.tone - 0.5), 0, 1)
    shine = step(metal, 0.86, 0.16)
    return paint(ramp(metal, "#1a0a00", "#6b3d00", "#c88a10", "#ffd75a", "#fff6c8") + 0.2 * shine[..., None])


def chrome(k: Look) -> Picture:
    bands = 0.5 + 0.5 * np.sin(blur(k.tone, 2.5) * 13 + 2.0 * k.relief)
    metal = np.clip(0.12 + 0.75 * bands + 0.2 * k.relief, 0, 1)
    return ramp(metal.astype(np.float32), "#06080c", "#3a4656", "#9fb2c4", "#ffffff")


def ice(k: Look) -> Picture:
    facet = patterns.facets(k.tone, 6)
    cold = np.clip(0.3 + 0.55 * facet + 0.3 * k.relief, 0, 1)
    return paint(ramp(cold, "#0b2f5c", "#3c8ec8", "#a8e2f6", "#ffffff") + 0.3 * step(k.line, 0.4, 0.3)[..., None])


def fire(k: Look) -> Picture:
    hot = np.clip(1.2 * step(blur(k.tone, 1.5), 0.62, 0.4) ** 1.5 + 0.55 * blur(k.edge, 1.0), 0, 1.1)
    flame = patterns.rise(hot.astype(np.float32), 26)
    body = np.clip(flame * (1.15 - 0.4 * k.grid("flicker")), 0, 1)
    return ramp(body, "#050000", "#5a0600", "#d83000", "#ff9a10", "#ffe860", "#fffbe0")


def ocean(k: Look) -> Picture:
    wave = patterns.ripple(k.rgb, 32, 3.5)
    tone = blur(cv2.cvtColor(wave, cv2.COLOR_RGB2GRAY), 1.5)
    deep = ramp(tone, "#001a33", "#00507a", "#0fa3b1", "#8ff0e0", "#f4fffb")
    return paint(deep + 0.22 * k.grid("caustic")[..., None] * rgb("#b8fff0"))


def aurora(k: Look) -> Picture:
    veil = patterns.rise(step(blur(k.tone, 2.0), 0.55, 0.3), 44) * (0.75 + 0.25 * k.grid("curtain"))
    green = ramp(veil, "#01030f", "#03223c", "#0a7a6a", "#2fe88a", "#d8ffd0")
    violet = blur(step(k.tone, 0.45, 0.2), 8) * (1 - blur(veil, 4))
    return paint(
        green + violet[..., None] * rgb("#8a1ae0") * 0.8 + 0.35 * step(k.line, 0.5, 0.3)[..., None] * rgb("#b070ff")
    )


def galaxy(k: Look) -> Picture:
    cloud = blur(k.tone, 3.5)
    dust = ramp(cloud, "#05020f", "#2a0a52", "#8a1c8c", "#ff5fa0", "#ffd9f0")
    fine = k.gray - blur(k.gray, 1.6)
    star = step(paint(fine / (0.03 + np.sqrt(blur(fine**2, 10)))), 1.3, 0.4) + 0.9 * k.grid("stars")
    spark = np.clip(star, 0, 1).astype(np.float32)
    return paint(dust + (spark + 0.6 * blur(spark, 2))[..., None] * rgb("#cfe4ff"))


def glitch(k: Look) -> Picture:
    torn = patterns.tear(k.rgb, 32, 14)
    red, blue = np.roll(torn[..., 0], -7, 1), np.roll(torn[..., 2], 7, 1)
    out = np.dstack([red, torn[..., 1], blue]).astype(np.float32)
    return paint(np.clip(vivid(out, 1.7) * 1.15 - 0.05, 0, 1) * (1 - 0.35 * k.grid("scan16"))[..., None])


def sunset(k: Look) -> Picture:
    sky = ramp(blur(k.tone, 1.0), "#1a0530", "#6a1560", "#d8344a", "#ff8a3c", "#ffd27a", "#fff3cf")
    return paint(sky + 0.25 * blur(np.clip(sky - 0.55, 0, 1), 9))


def matrix(k: Look) -> Picture:
    glyph = patterns.glyphs(k.tone)
    lit = np.clip(glyph * (0.3 + 0.9 * blur(k.tone, 4)), 0, 1).astype(np.float32)
    return paint(ramp(lit, "#000a02", "#00b83a", "#7dff9a") + ramp(blur(k.tone, 1.2), "#000000", "#00240a", "#007a2c"))


def glass(k: Look) -> Picture:
    flat = cv2.bilateralFilter(blur(k.soft, 2.0), 9, 0.2, 6)
    jewel = np.clip(vivid(flat, 2.8) * 1.25, 0, 1) * (0.8 + 0.35 * patterns.facets(k.tone, 5))[..., None]
    lead = np.maximum(step(blur(k.edge, 1.6), 0.42, 0.12), k.grid("leads"))
    return paint(jewel * (1 - lead)[..., None] + 0.02)


def embroidery(k: Look) -> Picture:
    flat = patterns.cells(vivid(k.rgb, 1.6), 8, blend=0.6)
    thread = k.grid("stitch")
    return paint(np.clip(flat, 0, 1) * (0.62 + 0.55 * thread)[..., None])


def papercut(k: Look) -> Picture:
    tone = blur(k.tone, 3.0)
    out = np.broadcast_to(rgb("#1f2a63"), (*tone.shape, 3)).astype(np.float32)
    for edge, code in ((0.3, "#d13b6f"), (0.45, "#ff8a5c"), (0.58, "#ffd866"), (0.72, "#fff6e0")):
        sheet = step(tone, edge, 0.02)
        shade = np.roll(blur(sheet, 3.5), (5, 5), (0, 1))
        out = out * (1 - 0.75 * (shade * (1 - sheet))[..., None])
        rim = np.clip(sheet - np.roll(sheet, (2, 2), (0, 1)), 0, 1)
        out = mix(out, rgb(code), sheet) + 0.25 * rim[..., None]
    return paint(out * (1 - 0.1 * k.grid("paper"))[..., None])


def noir(k: Look) -> Picture:
    hard = step(blur(k.tone, 0.7), 0.45, 0.3) ** 1.3
    return paint(hard[..., None] * rgb("#f2efe8") * (1 - 0.1 * k.grid("paper"))[..., None])


def risograph(k: Look) -> Picture:
    tone, grain = blur(k.tone, 1.2), 0.28 * (k.grid("bristle") - 0.5)
    pink = step(1 - tone + grain, 0.45, 0.22)
    teal = np.roll(step(1 - blur(k.tone, 1.5) + 0.5 * (k.grid("dots") - 0.5) + grain, 0.68, 0.12), (4, -4), (0, 1))
    sun = step(tone + grain, 0.62, 0.16) * 0.75
    paper = rgb("#f7f1e6")
    for ink_, dose in (("#ffd21f", sun), ("#ff4f8b", pink), ("#0b7f8c", teal)):
        paper = paper * (1 - dose[..., None] * (1 - rgb(ink_)))
    return paint(paper)


def marble(k: Look) -> Picture:
    field = blur(k.tone, 3.5) * 1.6 + 1.5 * (k.grid("pools") - 0.5) + 0.1 * (k.grid("flicker") - 0.5)
    vein = np.exp(-11 * np.abs(((field * 0.9) % 1.0) - 0.5)) + 0.35 * np.exp(-8 * np.abs(((field * 2.1) % 1.0) - 0.5))
    body = 0.6 + 0.75 * (blur(k.tone, 2) - 0.5) + 0.3 * k.relief - 0.3 * blur(k.edge, 1.0)
    stone = ramp(paint(np.clip(body, 0, 1)), "#3d4650", "#9aa3a8", "#e9e6df", "#ffffff")
    return mix(stone, rgb("#a8742a"), paint(np.clip(0.75 * vein, 0, 0.8)))


def lava(k: Look) -> Picture:
    crack = step(blur(k.edge, 0.8) + 0.25 * (k.grid("caustic") - 0.4), 0.42, 0.2)
    seam = np.maximum(crack, 0.8 * np.exp(-9 * np.abs(((blur(k.tone, 3) * 2.5 + 0.3 * k.grid("caustic")) % 1.0) - 0.5)))
    crust = 0.13 + 0.1 * k.relief + 0.1 * (k.grid("bristle") - 0.5)
    heat = np.clip(seam + 0.8 * blur(paint(seam), 5) - 0.12, 0, 1)
    return paint(
        ramp(paint(heat), "#000000", "#7a0a00", "#ff4a00", "#ffc01a", "#fff6b0") + crust[..., None] * rgb("#a89c9c")
    )


def circuit(k: Look) -> Picture:
    board = ramp(blur(k.tone, 2), "#01160d", "#04402a", "#0a6b43")
    level = patterns.cells(blur(k.tone, 1.5), 16)
    track = np.maximum(k.grid("tracks") * step(level, 0.42, 0.04), k.grid("tracks2") * step(level, 0.6, 0.04))
    pads = k.grid("pads") * step(level, 0.3, 0.05)
    copper = np.clip(np.maximum(np.maximum(0.85 * track, pads), step(k.line, 0.3, 0.25)), 0, 1)
    metal = ramp(paint(0.55 + 0.4 * k.relief + 0.25 * (k.tone - 0.5)), "#6b4a10", "#e0b04a", "#fff3b0")
    return mix(board, metal, paint(copper)) * (1 - 0.8 * k.grid("holes") * step(level, 0.3, 0.05))[..., None]


def vhs(k: Look) -> Picture:
    luma = cv2.GaussianBlur(k.gray, (0, 0), sigmaX=1.6, sigmaY=0.6)
    shade = vivid(k.rgb, 2.4) - k.rgb.mean(2, keepdims=True)
    bleed = np.roll(cv2.GaussianBlur(shade, (0, 0), sigmaX=7, sigmaY=1.5), 8, 1)
    out = 0.16 + 0.78 * luma[..., None] + 0.75 * bleed + 0.25 * (luma - np.roll(luma, 4, 1))[..., None]
    rows = k.grid("tape")
    out = np.where(rows[..., None] > 0.5, np.roll(out, 6, 1), out)
    streak = k.grid("streak") * (0.4 + 0.6 * luma)
    return paint(
        (out * rgb("#f0e4ff") + rgb("#1a0a30")) * (1 - 0.3 * k.grid("scan16"))[..., None] + 0.3 * streak[..., None]
    )


def anaglyph(k: Look) -> Picture:
    gray = np.clip(1.25 * k.tone - 0.08, 0, 1)
    red, cyan = np.roll(gray, -6, 1), np.roll(gray, 6, 1)
    return paint(np.dstack([red, cyan, cyan]))


def ascii(k: Look) -> Picture:
    glyph = patterns.glyphs(k.tone, lettered=True)
    lit = glyph * (0.25 + 1.0 * blur(k.tone, 3))
    return paint(
        ramp(paint(np.clip(lit, 0, 1)), "#0a0400", "#b85a00", "#ffc861")
        + 0.4 * (blur(k.tone, 1.2) ** 1.5)[..., None] * rgb("#ff7a10")
    )


def contour(k: Look) -> Picture:
    height = blur(k.tone, 3.0)
    land = ramp(height, "#2f6f8f", "#7fb8a0", "#cfd9a0", "#e8c98a", "#c98f5e", "#f6efe4")
    line = np.exp(-((np.abs(((height * 9) % 1.0) - 0.5) / (0.1 + 9 * _steep(height))) ** 2))
    thick = np.exp(-((np.abs(((height * 3) % 1.0) - 0.5) / (0.05 + 6 * _steep(height))) ** 2))
    return mix(land, rgb("#5a3413"), paint(np.clip(0.55 * line + 0.5 * thick, 0, 0.9)))


def holographic(k: Look) -> Picture:
    phase = 2.2 * blur(k.tone, 2.0) + 0.35 * k.relief + 0.3 * k.grid("sheen")
    wave = np.stack([0.66 + 0.36 * np.cos(2 * np.pi * (phase + s)) for s in (0.0, 0.33, 0.67)], -1)
    light = 0.55 + 0.4 * blur(k.tone, 1.0) + 0.22 * k.relief
    return paint(wave * light[..., None] + 0.35 * step(paint(k.relief), 0.45, 0.25)[..., None])


def psychedelic(k: Look) -> Picture:
    phase = blur(k.tone, 3.0) * 1.9 + 0.16 * (k.grid("pools") - 0.5)
    wave = np.stack([0.5 + 0.5 * np.cos(2 * np.pi * (phase + s)) for s in (0.0, 0.36, 0.68)], -1)
    bold = np.clip((wave - 0.5) * 2.2 + 0.5, 0, 1)
    dark = 1 - step(blur(k.edge, 0.9), 0.55, 0.2)
    return paint(vivid(paint(bold), 1.4) * dark[..., None])


def plain(k: Look) -> Picture:
    return k.rgb


STYLES: dict[str, Style] = {
    f.__name__: f
    for f in (
        neon, ink, watercolour, oil, pencil, charcoal, halftone, comic, mosaic, pixel, thermal, xray, blueprint, gold,
        chrome, ice, fire, ocean, aurora, galaxy, glitch, sunset, matrix, glass, embroidery, papercut, noir,
        risograph, marble, lava, circuit, vhs, anaglyph, ascii, contour, holographic, psychedelic,
    )
}  # fmt: skip
"""By name; `plain`, the picture as it is, is not among them."""

TINTS: dict[str, str] = {
    "red": "#ff2a2a", "green": "#2aff4a", "blue": "#2a55ff", "purple": "#a030ff", "pink": "#ff55b0",
    "orange": "#ff8a1a", "yellow": "#ffe62a", "cyan": "#20e8ff",
}  # fmt: skip

BALANCE = {"warm": (1.3, 0.95, 0.55), "cold": (0.55, 0.95, 1.35)}
"""Gains of red, green and blue."""


def tint(picture: Picture, name: str) -> Picture:
    """`picture` leaning strongly to a colour of TINTS, or `dark`, `bright`, `warm`, `cold`; same shape."""
    if name == "dark":
        return np.asarray(np.clip(picture, 0, 1) ** 1.8 * 0.7, np.float32)
    if name == "bright":
        return np.asarray(0.12 + 0.88 * np.clip(picture, 0, 1) ** 0.55, np.float32)
    if name in BALANCE:
        return np.asarray(np.clip(picture * np.array(BALANCE[name], np.float32), 0, 1), np.float32)
    gray = picture.max(2) * 0.5 + picture.mean(2) * 0.5
    code = TINTS[name]
    return np.asarray(0.25 * picture + 0.75 * ramp(np.clip(gray, 0, 1), "#000000", code, "#ffffff"), np.float32)


MODIFIERS = (*TINTS, *BALANCE, "dark", "bright")


def render(picture: Picture, style: str, modifier: str = "") -> Picture:
    """RGB float32 (h, w, 3) in 0..1 under that style. KeyError for a name that is not in STYLES (or `plain`).

    The same picture gives the same result, bit by bit; h and w should be multiples of 32 for the grids to close.
    """
    out = plain(Look(picture)) if style == "plain" else STYLES[style](Look(picture))
    if modifier:
        out = tint(out, modifier)
    return np.clip(out, 0, 1).astype(np.float32)


def render_all(picture: Picture, names: tuple[str, ...]) -> list[Picture]:
    """`render` for many styles of one picture, sharing what they have in common."""
    look = Look(picture)
    return [np.clip(STYLES[name](look), 0, 1).astype(np.float32) for name in names]
