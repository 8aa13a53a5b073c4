"""Where a show is: which cue is on, when the next one fires, whether all is held. No I/O, no clock of its own.

Every method takes the time, seconds of the bridge's clock, so that nothing that happens to a worker touches it, and a
test plays an hour in no time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bridge.errors import ControlError
from bridge.show.cues import HAND, Cue, Show, Span, span
from bridge.show.tempo import Tempo

MAX_FIRES = 256
"""Cues that one look at the clock may fire: what was slept through is caught up with, but not for ever."""


class Fire(NamedTuple):
    cue: Cue
    at_s: float


class Asked(NamedTuple):
    """A cue that a hand fires."""

    place: int
    at_s: float
    follows: bool
    """Whether it comes as the next one, so that a repeat counts."""


class Player:
    """Not thread-safe: its owner's lock guards it."""

    def __init__(self, show: Show, tempo: Tempo) -> None:
        self.show, self._tempo = show, tempo
        self.index = -1
        """The cue that is on; -1 before the first."""
        self._since_s = self._since_beat = 0.0
        self._asked: Asked | None = None
        """A go that has not been fired yet: it waits for a frame, or for its beat."""
        self._held_s: float | None = None
        self._left: dict[str, int] = {}
        """How often a cue that repeats still goes back."""

    # By hand

    def go(self, at_s: float) -> None:
        """Fire the next cue, at once or at the beat that it waits for. Raises ControlError at the end."""
        after = self.following()
        if after is None:
            raise ControlError("the cue list is over: jump to a cue, or let it loop")
        self.jump(after, at_s, True)

    def back(self, at_s: float) -> None:
        self.jump(max(0, self.index - 1), at_s)

    def jump(self, index: int, at_s: float, follows: bool = False) -> None:
        """Fire this cue, counted from 0, at once or at the beat that it waits for."""
        cue = self.show.cue[index]
        beats = {"": 0.0, "beat": 1.0, "bar": float(self._tempo.per_bar)}[cue.quantise]
        self._asked = Asked(index, self._tempo.next_after(at_s, beats) if beats else at_s, follows)

    def hold(self, on: bool, at_s: float) -> None:
        """Let no time pass for the list; what moves goes on moving."""
        if on and self._held_s is None:
            self._held_s = at_s
        elif not on and self._held_s is not None:
            stood = at_s - self._held_s
            self._since_s += stood
            self._since_beat += self._tempo.beat(at_s) - self._tempo.beat(self._held_s)
            self._held_s = None

    @property
    def held(self) -> bool:
        return self._held_s is not None

    @property
    def asked(self) -> int:
        """The cue that a hand has fired and that waits for its beat; -1 if none does."""
        return -1 if self._asked is None else self._asked.place

    def find(self, word: str | float) -> int:
        """A cue's index by its name, or by its number from 1. Raises ControlError."""
        for index, cue in enumerate(self.show.cue):
            if word and word == cue.name:
                return index
        text = word if isinstance(word, str) else f"{word:g}"
        number = int(text) if len(text) < 9 and text.isascii() and text.isdecimal() else 0
        if not 1 <= number <= len(self.show.cue):
            raise ControlError(f"there is no cue {text[:40]!r}")
        return number - 1

    # By time

    def advance(self, at_s: float) -> list[Fire]:
        """What has come due by now, each with its own time."""
        fired: list[Fire] = []
        while len(fired) < MAX_FIRES:
            due, asked, after = self.due_s(at_s), self._asked, self.following()
            if asked is not None and asked.at_s <= min(at_s, due):
                index, when, follows = asked
                self._asked = None
            elif due <= at_s and after is not None:
                index, when, follows = after, due, True
            else:
                break
            if follows:
                self._count_down()
            self.index, self._since_s, self._since_beat = index, when, self._tempo.beat(when)
            if self._held_s is not None:
                self._held_s = when
            fired.append(Fire(self.show.cue[index], when))
        return fired

    def due_s(self, at_s: float) -> float:
        """When the next cue fires by itself; infinite if it does not."""
        if self._held_s is not None or self.following() is None:
            return math.inf
        wait = self._wait()
        if wait is None:
            return math.inf
        if wait.unit == "s":
            return self._since_s + wait.amount
        return self._tempo.after(at_s, self._since_beat + wait.beats(self._tempo.per_bar) - self._tempo.beat(at_s))

    def next_s(self, at_s: float) -> float:
        """When the next cue fires, by itself or by a hand that waits for the beat; infinite if neither is so."""
        return min(self._asked.at_s if self._asked else math.inf, self.due_s(at_s))

    def following(self) -> int | None:
        """The cue after the one that is on."""
        if self.index >= 0:
            cue = self.show.cue[self.index]
            if cue.next and (not cue.times or self._left.get(_key(cue, self.index), cue.times)):
                return self.find(cue.next)
        after = self.index + 1
        return after if after < len(self.show.cue) else 0 if self.show.loop else None

    def replace(self, show: Show) -> None:
        """Another version of the list, while it plays: the cue that is on stays on, found by its name or number."""
        if self.index >= 0:
            name = self.show.cue[self.index].name
            same = [index for index, cue in enumerate(show.cue) if name and cue.name == name]
            self.index = same[0] if same else min(self.index, len(show.cue) - 1)
        self.show, self._asked = show, None

    def _wait(self) -> Span | None:
        if self.index < 0:
            return None
        wait = self.show.cue[self.index].wait
        return None if wait == HAND else span(wait)

    def _count_down(self) -> None:
        if self.index < 0:
            return
        cue = self.show.cue[self.index]
        if cue.next and cue.times:
            key = _key(cue, self.index)
            left = self._left.get(key, cue.times)
            # Once it has gone on, it is ready to be played through again.
            self._left[key] = left - 1 if left else cue.times


def _key(cue: Cue, index: int) -> str:
    return cue.name or str(index)
