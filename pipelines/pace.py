"""How often networks that make hints look: decided on the host, frame by frame.

A network is in a frame's sequence of operations or it is not, so that a captured frame has two forms for each such
unit: it looks, or what it saw before is carried on (pipelines/carry.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pipelines.unitrow import Unit

Look = Literal["each", "look", "carry", "watch", "follow"]
"""At each frame, with nothing kept; at this one, and it is kept; or what was kept is moved to where things are now.
For a network beside the stream (pipelines/beside.py): motion is followed from this frame on, then followed without an
answer yet, then carried."""
WAITING = frozenset({"watch", "follow"})
"""There is no hint yet."""


class Pace:
    """One stream's counters."""

    def __init__(self) -> None:
        self._ages: dict[int, tuple[object, int]] = {}

    @property
    def age(self) -> int:
        """How many frames ago the oldest hint in use was seen."""
        return max((age for _, age in self._ages.values()), default=0)

    def __call__(self, watched: Mapping[int, object], units: Sequence[Unit]) -> dict[int, Look]:
        """What each unit that has a network does in this frame, by number. `watched`: what each looks at; a hint is
        carried from frame to frame as long as that is equal."""
        ages: dict[int, tuple[object, int]] = {}
        for number, what in watched.items():
            every = units[number - 1].every
            if every > 1:
                known, age = self._ages.get(number, (None, every))
                ages[number] = (what, age + 1 if known == what and age + 1 < every else 0)
        self._ages = ages
        return {number: "carry" if age else "look" for number, (_, age) in ages.items()}

    def forget(self) -> None:
        """What comes next has nothing to do with what was: every network looks at the next frame."""
        self._ages = {}
