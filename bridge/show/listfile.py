"""The file that the cue list on the desk came from, and whether somebody has edited it."""

from __future__ import annotations

import logging
from pathlib import Path

from bridge.errors import ConfigError
from bridge.metrics import Metrics
from bridge.show import cues
from bridge.show.cues import Show

log = logging.getLogger("livelatent.show")


class ListFile:
    """Its owner's lock guards it, except for `edited`, which may take its time."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if it is not there."""
        self.path = path
        self.stamp = path.stat().st_mtime_ns

    def edited(self, metrics: Metrics) -> tuple[int, Show | None] | None:
        """Its new stamp and the cues in it, None for cues that are wrong; None altogether if nobody has touched it."""
        try:
            stamp = self.path.stat().st_mtime_ns
        except OSError:
            return None  # an editor is just putting another in its place, or it is gone: the list plays on
        if stamp == self.stamp:
            return None
        try:
            return stamp, cues.read_show(self.path)
        except ConfigError as error:
            # Half a file, or a mistake in it: the list goes on as it was.
            log.warning("the show keeps its former cues: %s", error)
            metrics.gauge("error", str(error))
            return stamp, None
