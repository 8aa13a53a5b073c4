"""The MIDI clocks of all ports, of which one counts: the one that is named, else the first until it falls silent."""

from __future__ import annotations

import threading
from typing import Any

from bridge.midi.clock import Clock
from bridge.show.tempo import Line

GONE_S = 2.0


class Clocks:
    """Thread-safe: the beat is asked for with every frame, by another thread than the one that hears the ticks."""

    def __init__(self, wanted: str = "") -> None:
        """`wanted`: part of the name of the only port whose clock counts."""
        self._wanted = wanted.lower()
        self._lock = threading.Lock()
        self._port = ""
        self._clock = Clock()
        self._heard_s = 0.0

    def take(self, port: str, message: Any, at_s: float) -> bool:
        """Whether this `mido.Message` was a tick, and so nothing for the bindings."""
        if message.type not in ("clock", "start", "stop", "continue", "songpos"):
            return False
        with self._lock:
            if self._counts(port, at_s):
                self._feed(message, at_s)
        return bool(message.type in ("clock", "songpos"))

    def line(self, at_s: float) -> Line | None:
        """A `Leader`."""
        with self._lock:
            return self._clock.line(at_s)

    def _counts(self, port: str, at_s: float) -> bool:
        if self._wanted not in port.lower():
            return False
        if port != self._port:
            if self._port and at_s - self._heard_s < GONE_S:
                return False
            self._port, self._clock = port, Clock()
        self._heard_s = at_s
        return True

    def _feed(self, message: Any, at_s: float) -> None:
        match message.type:
            case "clock":
                self._clock.tick(at_s)
            case "start":
                self._clock.start()
            case "continue":
                self._clock.resume()
            case "stop":
                self._clock.stop()
            case "songpos":
                self._clock.position(message.pos)
