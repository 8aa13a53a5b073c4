"""One frame at a time, for runs that paint every frame: the source waits until the picture of its frame is written."""

from __future__ import annotations

import threading

from bridge.output import Output

SLICE_S = 0.2
WRITE_LIMIT_S = 30.0
"""A sink that takes longer over one picture is not waited for any more."""


class Turn:
    """Begun and waited for by the source's thread, ended by the worker's picture or its refusal."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._painted = threading.Event()

    def begin(self) -> None:
        """A frame is about to be handed over."""
        self._painted.clear()

    def painted(self) -> None:
        """Its picture is with the sinks, or there will be none."""
        self._painted.set()

    def wait(self, stop: threading.Event) -> None:
        """Until the picture is written everywhere, or `stop` is set."""
        while not self._painted.wait(SLICE_S):
            if stop.is_set():
                return
        self._output.wait_written(WRITE_LIMIT_S, (stop,))
