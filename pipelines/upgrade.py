"""From eager to a faster engine, in the middle of a show: measured beside it, built beside it, handed over between two
frames. The past, the prompt and all numbers stay; the first picture never waits for any of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from engines.base import Nets
from engines.errors import ModelError, first_line
from pipelines.ladder import Rung, Verdict

AFTER_S = 8.0
"""A show that has painted for so long goes on, most likely: then measuring is worth its while."""
LOOK_S = 1.0
"""A standby looks this often whether the painter beside it has had something measured."""
Tell = Callable[[str, float], None]


class Load(Protocol):
    """Gives a rung's networks, ready to paint, or raises ModelError. None: eager's own will do."""

    def __call__(self, rung: Rung, tell: Tell, cancelled: threading.Event, /) -> Nets | None: ...


class Choice(Protocol):
    """What is known of a spec's rungs, and how to find out: see pipelines.choose."""

    def recall(self) -> Verdict | None: ...

    def measure(self, tell: Tell, cancelled: threading.Event, /) -> Verdict: ...

    def loaded(self, verdict: Verdict, /) -> None:
        """The networks of its best rung are there: from now on they are quickly had, by a standby too."""
        ...


class Upgrade:
    """Belongs to one stream that began with eager. `poll` is the frame thread's."""

    def __init__(
        self, load: Load, choice: Choice, clock: Callable[[], float] = time.monotonic, after: float = AFTER_S
    ) -> None:
        """`after`: seconds of painting after which it begins."""
        self._load, self._choice, self._clock, self._after = load, choice, clock, after
        self._first: float | None = None
        self._looked = -LOOK_S
        self._thread: threading.Thread | None = None
        self._off = threading.Event()
        self._ready: Nets | None = None
        self.note = ""
        """Why the stream paints with what it does; empty until that is known. From any thread."""
        self.failed = ""
        """What went wrong, a sentence, or nothing."""
        self.doing, self.share = "", 0.0
        """What is on beside the show, and how far it is, 0..1."""

    def poll(self, painting: bool, wanted: bool = True) -> Nets | None:
        """The faster networks, once, when they are there. `painting`: pictures are wanted, and may be measured. What
        is on is called off where it is not `wanted`, and begins anew where it is again."""
        now = self._clock()
        if not wanted:
            self._off.set()
        elif self._thread is None:
            self._first = now if painting and self._first is None else self._first
            lasting = self._first is not None and now - self._first >= self._after
            known = False
            if not lasting and now - self._looked >= LOOK_S:
                self._looked = now
                known = self._choice.recall() is not None
            if lasting or known:
                self._off = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(self._off,), name="ll-engine", daemon=True)
                self._thread.start()
        elif self._off.is_set() and not self._thread.is_alive():
            self._thread = None
        ready, self._ready = self._ready, None
        return ready

    def _run(self, off: threading.Event) -> None:
        try:
            verdict = self._choice.recall() or self._choice.measure(self._tell, off)
            failed = [verdict.failed] if verdict.failed else []
            self._ready, missed = self._first_of(verdict.way_down, off)
            if self._ready is not None and not missed:
                self._choice.loaded(verdict)
            failed += missed
            self.note = "; ".join([verdict.why, *missed])
        except (ModelError, OSError) as error:
            failed = [] if off.is_set() else [f"eager goes on: {first_line(error)}"]
            self.note = first_line(error) if off.is_set() else failed[0]
        self.failed = "; ".join(failed)[:200]
        self.doing, self.share = "", 0.0

    def _first_of(self, rungs: tuple[Rung, ...], off: threading.Event) -> tuple[Nets | None, list[str]]:
        """The networks of the first rung that can be had, and a sentence for each that can't."""
        missed: list[str] = []
        for rung in rungs:
            self._tell(f"loading {rung.name}", 0.0)
            try:
                return self._load(rung, self._tell, off), missed
            except (ModelError, RuntimeError, OSError) as error:  # of a runtime: no memory, no kernel
                if off.is_set():
                    raise ModelError("the search for a faster engine was called off") from error
                missed.append(f"{rung.name} failed, and what is next goes on: {first_line(error)}")
        return None, missed

    def _tell(self, doing: str, share: float) -> None:
        self.doing, self.share = doing, share
