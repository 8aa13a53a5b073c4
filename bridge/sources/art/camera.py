"""The scene's camera: a pinhole at eye height over a plane, strafing and turning a little."""

from __future__ import annotations

import math
from dataclasses import dataclass

EYE = 1.6
"""Height over the floor, metres."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera is at one moment. World: x right, y up from the floor, z away, in metres; picture: pixels."""

    width: int
    height: int
    x: float
    turn: float
    """Turning shifts everything alike: pixels."""

    @classmethod
    def at(cls, t: float, width: int, height: int, phase: float) -> Camera:
        x = 0.85 * math.sin(t * 0.31 + phase) + 0.3 * math.sin(t * 0.73 + 2 * phase)
        unit = min(width, height) / 512
        return cls(width, height, x, unit * (16 * math.sin(t * 0.23 + phase) + 5 * math.sin(t * 0.61)))

    @property
    def focal(self) -> float:
        return float(min(self.width, self.height))

    @property
    def horizon(self) -> float:
        return self.height * 0.55

    @property
    def centre(self) -> float:
        return self.width / 2 + self.turn

    def scale(self, z: float) -> float:
        """Pixels per metre at distance z."""
        return self.focal / z

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """World point to picture point."""
        s = self.focal / z
        return self.centre + (x - self.x) * s, self.horizon + (EYE - y) * s
