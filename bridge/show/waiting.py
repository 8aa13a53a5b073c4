"""What was asked for the next beat or bar, until that comes; and the time that counts as now while it is done."""

from __future__ import annotations

from collections.abc import Callable

from bridge.clock import from_seconds, seconds
from bridge.errors import ControlError, LiveLatentError
from bridge.metrics import Metrics
from bridge.show.cues import Quantise
from bridge.show.tempo import Tempo

MAX_WAITING = 256

Later = Callable[[int], None]
"""Called with the time of its beat, nanoseconds."""


class Waiting:
    """Of several with one key, the last. Not thread-safe: its owner's lock guards it."""

    def __init__(self, tempo: Tempo, metrics: Metrics, clock: Callable[[], int]) -> None:
        self._tempo, self._metrics, self._clock = tempo, metrics, clock
        self._asked: dict[str, tuple[int, Later]] = {}
        self._due_ns: int | None = None

    def now(self) -> int:
        """The time that an act counts from, nanoseconds: its beat, if it waited for one."""
        return self._clock() if self._due_ns is None else self._due_ns

    def later(self, key: str, quantise: Quantise, act: Later) -> None:
        """Do this with the next beat or bar, or now where `quantise` is empty. What `key` asked for before is gone.

        Raises ControlError when too much waits, and what `act` raises where it is done now.
        """
        # Those of one beat are done in the order in which they were asked for last.
        self._asked.pop(key, None)
        if not quantise:
            act(self.now())
            return
        if len(self._asked) >= MAX_WAITING:
            raise ControlError(f"{MAX_WAITING} things wait for their beat already")
        beats = float(self._tempo.per_bar) if quantise == "bar" else 1.0
        self._asked[key] = from_seconds(self._tempo.next_after(seconds(self.now()), beats)), act

    def run(self, at_ns: int) -> None:
        """Do what has come due by now, each as if at its own time."""
        for key, asked in sorted(self._asked.items(), key=lambda item: item[1][0]):
            if asked[0] > at_ns:
                return
            if self._asked.get(key) is asked:  # else what was done before it has asked anew
                del self._asked[key]
                self._do(*asked)

    def _do(self, when_ns: int, act: Later) -> None:
        self._due_ns = when_ns
        try:
            act(when_ns)
        except LiveLatentError as error:
            self._metrics.gauge("error", str(error))
        finally:
            self._due_ns = None
