"""Complaints about messages that were refused: enough to help, never a second flood."""

from __future__ import annotations

import logging

from bridge.clock import NS

log = logging.getLogger("livelatent.osc")

ERRORS_PER_S = 20
"""Complaints answered, to all senders together; also the most that are saved up."""


class Grumble:
    """Complaints about messages that were refused: a log line a second at most, and answers in measure."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""
        self._next_ns = 0
        self._answers = float(ERRORS_PER_S)
        self._answered_ns = 0

    def log(self, at_ns: int) -> None:
        if self.count and at_ns >= self._next_ns:
            log.warning("refused %d OSC message%s; the last: %s", self.count, "s" * (self.count > 1), self.last)
            self._next_ns = at_ns + NS
            self.count = 0

    def may_answer(self, at_ns: int) -> bool:
        """Whether there is an answer left: ERRORS_PER_S come back every second."""
        gained = (at_ns - self._answered_ns) * ERRORS_PER_S / NS
        self._answers, self._answered_ns = min(ERRORS_PER_S, self._answers + gained), at_ns
        if self._answers < 1:
            return False
        self._answers -= 1
        return True
