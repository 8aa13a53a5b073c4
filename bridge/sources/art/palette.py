"""Colours and light of one scene, chosen by its seed."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sources.art.blend import Color


@dataclass(frozen=True, slots=True)
class Palette:
    """One time of day."""

    zenith: Color
    sky: Color
    glow: Color
    """Around the sun and along the horizon."""
    cloud: Color
    ridge: Color
    wall: Color
    window: Color
    floor: Color
    floor_dark: Color
    light: Color
    """What the lit side of things is tinted with."""
    sun: tuple[float, float]
    """Centre of the sun or moon: fractions of the width and of the height."""
    lamps: float
    """How brightly lamps and windows burn, 0 to 1."""


DUSK = Palette(
    zenith=(44, 52, 110),
    sky=(214, 120, 116),
    glow=(255, 196, 120),
    cloud=(250, 164, 132),
    ridge=(98, 70, 116),
    wall=(70, 58, 92),
    window=(255, 214, 130),
    floor=(150, 126, 134),
    floor_dark=(104, 86, 104),
    light=(255, 214, 170),
    sun=(0.62, 0.27),
    lamps=0.95,
)
DAY = Palette(
    zenith=(52, 112, 196),
    sky=(158, 204, 236),
    glow=(255, 246, 214),
    cloud=(255, 255, 255),
    ridge=(96, 132, 150),
    wall=(176, 160, 148),
    window=(108, 146, 176),
    floor=(190, 182, 166),
    floor_dark=(142, 134, 124),
    light=(255, 250, 236),
    sun=(0.28, 0.14),
    lamps=0.1,
)
NIGHT = Palette(
    zenith=(10, 14, 40),
    sky=(40, 52, 104),
    glow=(176, 190, 232),
    cloud=(64, 72, 118),
    ridge=(24, 30, 62),
    wall=(32, 36, 64),
    window=(255, 208, 112),
    floor=(74, 80, 110),
    floor_dark=(48, 52, 80),
    light=(206, 216, 255),
    sun=(0.78, 0.15),
    lamps=1.0,
)
DAWN = Palette(
    zenith=(84, 132, 176),
    sky=(246, 206, 186),
    glow=(255, 232, 190),
    cloud=(255, 222, 214),
    ridge=(140, 134, 164),
    wall=(142, 118, 124),
    window=(255, 226, 168),
    floor=(176, 158, 150),
    floor_dark=(128, 112, 116),
    light=(255, 232, 208),
    sun=(0.33, 0.26),
    lamps=0.55,
)
PALETTES = (DUSK, DAY, NIGHT, DAWN)

COATS: tuple[Color, ...] = (
    (200, 62, 56),
    (46, 108, 168),
    (232, 178, 60),
    (62, 142, 104),
    (142, 82, 160),
    (226, 226, 216),
    (222, 118, 64),
    (58, 66, 84),
)
SKINS: tuple[Color, ...] = ((240, 196, 164), (214, 160, 120), (164, 110, 78), (110, 72, 52))
HAIRS: tuple[Color, ...] = ((44, 32, 28), (88, 56, 34), (176, 124, 60), (30, 26, 34), (150, 66, 40))
