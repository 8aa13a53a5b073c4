"""What one part of a run has to complain of: shown where all errors are, and taken back once it works again."""

from __future__ import annotations

from bridge.metrics import Metrics


class Trouble:
    """Of one part, used by one thread. What another part has said since is left alone."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.said = ""
        """The sentence, until it is over."""

    def say(self, sentence: str) -> bool:
        """Whether it is another one than before."""
        new, self.said = sentence != self.said, sentence
        self._metrics.gauge("error", sentence)
        return new

    def over(self) -> None:
        """It works again. Cheap where nothing was wrong."""
        if self.said:
            self._metrics.unsay("error", self.said)
            self.said = ""
