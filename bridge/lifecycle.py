"""The life of one worker, as a table.

A worker is a separate process that can die at any moment, so the bridge never asks "what should happen now?" in code
that is spread over threads. It records what happened (an event) and looks up what the worker is from then on:

- `starting`  the process exists and builds its networks (seconds: torch alone takes three);
- `warm`      built, warmed up, waiting: the standby;
- `active`    paints;
- `leaving`   was told to quit, or killed; whatever it still sends is ignored;
- `dead`      reaped. Its ring is unlinked, its threads are joined.

Rule 1: only `active` paints, and at most one worker is active.
Rule 2: `died` is accepted in every state but `dead`: nobody asks before dying.
Rule 3: a pair that is not in the table is a bug of ours, and says so.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    STARTING = "starting"
    WARM = "warm"
    ACTIVE = "active"
    LEAVING = "leaving"
    DEAD = "dead"


class Event(Enum):
    READY = "ready"
    """It says that it is built."""
    REFUSED = "refused"
    """It says that it can't be built."""
    PROMOTED = "promoted"
    """We made it the painter."""
    DISMISSED = "dismissed"
    """We told it to quit, or killed it for a stall."""
    DIED = "died"
    """Its process is gone."""


TABLE: dict[tuple[State, Event], State] = {
    (State.STARTING, Event.READY): State.WARM,
    (State.STARTING, Event.REFUSED): State.LEAVING,
    (State.STARTING, Event.DISMISSED): State.LEAVING,
    (State.STARTING, Event.DIED): State.DEAD,
    (State.WARM, Event.PROMOTED): State.ACTIVE,
    (State.WARM, Event.DISMISSED): State.LEAVING,
    (State.WARM, Event.DIED): State.DEAD,
    (State.ACTIVE, Event.DISMISSED): State.LEAVING,
    (State.ACTIVE, Event.DIED): State.DEAD,
    (State.LEAVING, Event.READY): State.LEAVING,
    (State.LEAVING, Event.REFUSED): State.LEAVING,
    (State.LEAVING, Event.DISMISSED): State.LEAVING,
    (State.LEAVING, Event.DIED): State.DEAD,
}


def after(state: State, event: Event) -> State:
    """The next state. LookupError for a pair that can't be."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise LookupError(f"a worker that is {state.value} can't have {event.value}") from None


class Deaths:
    """Back-off and giving up.

    A worker that painted for a while and then died is replaced at once, however often: the show moved in between. One
    that dies before it has painted for `proven_s` is a crash loop in the making: each such death doubles the pause
    before the next try, and `limit` of them within `window_s` end the tries.
    """

    def __init__(self, limit: int = 5, window_s: float = 60.0, proven_s: float = 0.25) -> None:
        self._limit, self._window_s, self.proven_s = limit, window_s, proven_s
        self._early: list[float] = []

    def record(self, at_s: float, painted_s: float) -> None:
        """A worker died at `at_s` after painting for `painted_s` seconds."""
        if painted_s >= self.proven_s:
            self._early.clear()
        else:
            self._early = [t for t in self._early if t > at_s - self._window_s] + [at_s]

    def forgive(self) -> None:
        """Start again from nothing: the user asked for it."""
        self._early.clear()

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try: 0, 0.1, 0.2, 0.4 … 5 seconds."""
        return min(5.0, 0.1 * 2 ** (len(self._early) - 1)) if self._early else 0.0

    @property
    def hopeless(self) -> bool:
        return len(self._early) >= self._limit
