"""From eager to a faster engine, in the middle of a show: measured beside it, built beside it, handed over between two
frames. The past, the prompt and all numbers stay; the first picture never waits for any of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from engines.base import Nets
from engines.errors import ModelError
from pipelines import choose
from pipelines.choose import Verdict
from pipelines.spec import StreamSpec

AFTER_S = 8.0
"""A show that has painted for so long goes on, most likely: then measuring is worth its while."""
LOOK_S = 1.0
"""A standby looks this often whether the painter beside it has had something measured."""


class Upgrade:
    """Belongs to one stream that began with eager. `poll` is the frame thread's."""

    def __init__(
        self,
        spec: StreamSpec,
        load: Callable[[], Nets],
        measure: Callable[[StreamSpec], Verdict] = choose.measure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` gives the faster engine's networks, ready to paint, or raises ModelError."""
        self._spec, self._load, self._measure, self._clock = spec, load, measure, clock
        self._first: float | None = None
        self._looked = -LOOK_S
        self._thread: threading.Thread | None = None
        self._ready: Nets | None = None
        self.note = ""
        """Why the stream paints with what it does; empty until that is known. From any thread."""
        self.failed = ""
        """What went wrong, a sentence, or nothing."""

    def poll(self, painting: bool) -> Nets | None:
        """The faster networks, once, when they are there. `painting`: pictures are wanted, and may be measured."""
        now = self._clock()
        if self._thread is None:
            self._first = now if painting and self._first is None else self._first
            lasting = self._first is not None and now - self._first >= AFTER_S
            known = False
            if not lasting and now - self._looked >= LOOK_S:
                self._looked = now
                known = choose.recall(self._spec) is not None
            if lasting or known:
                self._thread = threading.Thread(target=self._run, name="ll-engine", daemon=True)
                self._thread.start()
        ready, self._ready = self._ready, None
        return ready

    def _run(self) -> None:
        try:
            verdict = choose.recall(self._spec) or self._measure(self._spec)
            if verdict.engine == "openvino":
                self._ready = self._load()
            self.note, self.failed = verdict.why, verdict.why if verdict.failed else ""
        except (ModelError, OSError) as error:
            self.note = self.failed = f"openvino failed, eager goes on: {error}"[:200]
