"""What the supervisor tells of its workers: the state, the painter's notes, and what went wrong last."""

from __future__ import annotations

import logging

from bridge.child import Child
from bridge.clock import NS, now_ns
from bridge.metrics import Metrics

log = logging.getLogger("livelatent.supervisor")

ERROR_SHOWN_S = 20.0


class Bulletin:
    """Belongs to the supervisor's thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._error_ns = 0
        self._failed = ""
        """What an engine said last of why another paints; told once."""
        metrics.gauge("state", "starting")
        metrics.gauge("error", "")

    def error(self, sentence: str) -> None:
        """Shown until pictures have flowed for a while, or something else went wrong."""
        self._error_ns = now_ns()
        self._metrics.gauge("error", sentence)

    def state(self, state: str, standby: bool) -> None:
        """`standby`: whether there is a warm one."""
        paints = state in ("running", "paused")
        if paints and self._error_ns and now_ns() - self._error_ns > ERROR_SHOWN_S * NS:
            self._error_ns = 0
            self._metrics.gauge("error", "")
        self._metrics.gauge("state", state)
        self._metrics.gauge("worker.standby", float(standby))

    def painter(self, child: Child) -> None:
        """What it says of itself."""
        self._metrics.gauge("model", f"{child.spec.model} {child.spec.width}x{child.spec.height}")
        for name, value in child.notes.items():
            self._metrics.gauge(name, value)
        failed = str(child.notes.get("engine.failed", ""))
        if failed and failed != self._failed:
            log.warning(failed)
            self._failed = failed
            self.error(failed)
