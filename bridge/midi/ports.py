"""MIDI ports that come and go: every input that is wanted is open while it is plugged in, and so is its output.

The libraries tell nobody when a device is gone, and its port stays deaf when it is back. So a thread of its own looks
at the list once a second, closes what is no longer there, and opens what is there again; nobody waits for it.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bridge.clock import now_ns
from bridge.errors import DriverError, DriverMissing
from bridge.metrics import Metrics

log = logging.getLogger("livelatent.midi")

SCAN_S = 1.0
SEQUENCER = Path("/dev/snd/seq")
"""What ALSA's ports are behind. Where it is missing, ALSA writes complaints onto the terminal at each question."""
_OURS = re.compile(r"rtmidi|midi through", re.IGNORECASE)
"""Ports that are the library's own ends, or echo what is sent to them."""
_NUMBERS = re.compile(r"\s+\d+(:\d+)?$")
"""What the systems put behind a name, and change when a device is plugged in again."""

Heard = Callable[[str, Any, int], None]
"""(port, `mido.Message`, when in nanoseconds), on a thread of the library's."""


class Backend(Protocol):
    """As `mido.Backend` has it."""

    def get_input_names(self) -> list[str]: ...
    def get_output_names(self) -> list[str]: ...
    def open_input(self, name: str, *, callback: Callable[[Any], None]) -> Any: ...
    def open_output(self, name: str) -> Any: ...


def require() -> None:
    """Raises DriverMissing if a package is."""
    try:
        importlib.import_module("mido")
        importlib.import_module("rtmidi")
    except ImportError as error:
        how = "pip install mido python-rtmidi" if sys.version_info >= (3, 13) else 'pip install "livelatent[show]"'
        raise DriverMissing(f"MIDI needs `{how}` ({error.name} is missing)") from error


def backend() -> Backend:
    """The system's MIDI. Raises DriverMissing, DriverError."""
    require()
    if sys.platform == "linux" and not SEQUENCER.exists():
        raise DriverError(f"this system has no MIDI: {SEQUENCER} is missing (`modprobe snd-seq` may bring it)")
    system: Backend = importlib.import_module("mido").Backend("mido.backends.rtmidi")
    return system


def stable(name: str) -> str:
    """The port's name without the numbers that change."""
    return _NUMBERS.sub("", name)


def inputs(system: Backend, wanted: Sequence[str] = ()) -> list[str]:
    """The inputs that are there, and whose names have one of `wanted` in them if there are any."""
    names = [name for name in dict.fromkeys(system.get_input_names()) if not name.lower().startswith("rtmidi")]
    return [name for name in names if not wanted or any(part.lower() in name.lower() for part in wanted)]


class Ports:
    """Thread-safe. `start` returns at once; `stop` when all is closed, or the deadline is over."""

    def __init__(
        self,
        open_backend: Callable[[], Backend],
        wanted: Sequence[str],
        feedback: bool,
        heard: Heard,
        metrics: Metrics,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        """`open_backend` raises DriverError while there is no MIDI; `wanted`: parts of inputs' names, none for all."""
        self._open_backend, self._wanted, self._feedback = open_backend, tuple(wanted), feedback
        self._heard, self._metrics, self._clock = heard, metrics, clock
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._lock = threading.Lock()
        """Guards the two; not held while a port is being opened."""
        self._said: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ll-midi-ports", daemon=True)
        self.changes = 0
        """How often a port came or went."""

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 2.0) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def names(self) -> list[str]:
        """Inputs that are open, without the numbers."""
        with self._lock:
            return [stable(name) for name in self._inputs]

    def outputs(self) -> list[str]:
        with self._lock:
            return [stable(name) for name in self._outputs]

    def send(self, port: str, message: Any) -> None:
        """To the output of this name, if it is open."""
        with self._lock:
            for name, output in self._outputs.items():
                if stable(name) == port:
                    try:
                        output.send(message)
                    except (OSError, ValueError) as error:  # pulled out a moment ago: the next look notices
                        self._metrics.count("midi.unsent")
                        log.debug("%s: %s", port, error)

    def _run(self) -> None:
        system = None
        while not self._stopping.is_set():
            try:
                system = system or self._open_backend()
                self.scan(system)
            except (DriverError, OSError) as error:
                self._say(str(error))
            self._stopping.wait(SCAN_S)
        self._keep(set(), set())

    def scan(self, system: Backend) -> None:
        """Close what is gone, open what is new. Raises OSError when the system can't be asked."""
        there = inputs(system, self._wanted)
        mates = {stable(name) for name in there}
        names = dict.fromkeys(system.get_output_names()) if self._feedback else ()
        out = [name for name in names if stable(name) in mates and not _OURS.match(name)]
        self._keep(set(there), set(out))
        for name in there:
            if name not in self._inputs:
                self._open(self._inputs, name, partial(self._listen, system, name))
        for name in out:
            if name not in self._outputs:
                self._open(self._outputs, name, partial(system.open_output, name))

    def _listen(self, system: Backend, name: str) -> Any:
        known = stable(name)
        return system.open_input(name, callback=lambda message: self._heard(known, message, self._clock()))

    def _open(self, ports: dict[str, Any], name: str, make: Callable[[], Any]) -> None:
        try:
            port = make()
        except (OSError, ValueError) as error:
            # On Windows a port belongs to one program at a time.
            self._say(f"the MIDI port {name} can't be opened (has another program got it?): {error}")
            return
        log.info("MIDI %s: %s", "in" if ports is self._inputs else "out", name)
        with self._lock:
            ports[name] = port
            self.changes += 1

    def _keep(self, ins: set[str], outs: set[str]) -> None:
        gone = []
        with self._lock:
            for ports, names in ((self._inputs, ins), (self._outputs, outs)):
                for name in [name for name in ports if name not in names]:
                    gone.append((name, ports.pop(name)))
                    self.changes += 1
        for name, port in gone:
            if not self._stopping.is_set():
                log.info("MIDI gone: %s", name)
            try:
                port.close()
            except (OSError, ValueError) as error:
                log.debug("%s: %s", name, error)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)
            self._metrics.gauge("midi.state", text)
