"""How far a prompt has come: sampling steps and Deforum's frames as a stream's time goes by. No torch."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Place(NamedTuple):
    """Where a prompt is at one moment."""

    seconds: float
    """Since it came up."""
    step: int
    """From 1: what editing and alternation count."""
    frames: float
    """Deforum's `t`."""


class Timeline(msgspec.Struct, frozen=True, array_like=True):
    """Straight lines over a clock, as Ableton Link's tempo is: a rate that changes bends them, and nothing jumps.

    Says everything in six numbers, so that whoever is told them (a worker that takes over) counts as all others do.
    """

    began: float
    """When the prompt came up, seconds of the clock."""
    turned: float
    """From when on the following holds."""
    steps: float
    """Steps that had passed by then."""
    frames: float
    """Deforum's frames that had passed by then."""
    rate: float
    """Steps a second since."""
    fps: float
    """Deforum's frames a second since."""

    @classmethod
    def start(cls, now: float, rate: float, fps: float) -> Timeline:
        return cls(now, now, 0.0, 0.0, rate, fps)

    def turn(self, now: float, rate: float, fps: float) -> Timeline:
        """With these rates from `now` on; itself if they are what it has."""
        if (rate, fps) == (self.rate, self.fps):
            return self
        steps, frames = self._passed(now)
        return Timeline(self.began, max(now, self.turned), steps, frames, rate, fps)

    def at(self, now: float) -> Place:
        """A moment before the prompt came up counts as that one."""
        steps, frames = self._passed(now)
        return Place(max(0.0, now - self.began), 1 + int(steps), frames)

    def _passed(self, now: float) -> tuple[float, float]:
        passed = max(0.0, now - self.turned)
        return self.steps + passed * self.rate, self.frames + passed * self.fps
