"""MIDI in a run: what the ports hear, through the bindings, to parameters, inputs, looks and cues; and back.

The libraries' threads put messages into one bounded box and go. One thread of ours takes them out: a hand's moves go
the same way as OSC's (so they take a parameter from its schedule), ticks of a clock go to the beat.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bridge.clock import MS, NS, now_ns, seconds
from bridge.config import MidiConfig
from bridge.errors import ConfigError, LiveLatentError
from bridge.metrics import Metrics
from bridge.midi import bindings, ports
from bridge.midi.clocks import Clocks
from bridge.midi.events import Event, Gather
from bridge.midi.feedback import Feedback
from bridge.midi.hand import Hand, Move
from bridge.midi.learn import Learner
from bridge.show.acts import Act
from bridge.show.director import Director
from bridge.show.wiring import Bound, Wiring
from bridge.store import ParamStore

log = logging.getLogger("livelatent.midi")

ORIGIN = "midi"
MAX_INBOX = 4096
LOOK_NS = 500 * MS
"""Between looks at the file of bindings, and at what people are told."""
SOON_S, IDLE_S = 0.005, 0.05


class Midi:
    """`start` opens what is plugged in; `stop` returns when threads and ports are gone. The rest is thread-safe."""

    def __init__(
        self,
        config: MidiConfig,
        store: ParamStore,
        director: Director,
        metrics: Metrics,
        find: Callable[[str], Act | None],
        backend: Callable[[], ports.Backend] = ports.backend,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        """`find`: what an address, without prefix, does. Raises ConfigError for bindings that are wrong."""
        self._clock = clock
        self._store, self._director, self._metrics, self._find = store, director, metrics, find
        self._lock = threading.RLock()
        """Guards the bindings and what is learnt. Nothing of the director's is called under it: its acts call us."""
        self._name, self._path, self._stamp = config.map, Path(), -1
        self._hands: list[Hand] = []
        self._bound: tuple[Bound, ...] = ()
        self._learner: Learner | None = None
        self.load(config.map)
        self._clocks = Clocks(config.clock)
        director.baton.lend("midi", self._clocks.line)
        self._gathers: dict[str, Gather] = {}
        self._inbox: deque[tuple[str, Any, int]] = deque(maxlen=MAX_INBOX)
        self._bell = threading.Event()
        self.ports = ports.Ports(backend, config.ports, config.feedback, self._heard, metrics, clock)
        self._feedback = Feedback(self.ports)
        self._next_look_ns = self._next_word_ns = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ll-midi", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.ports.start()

    def stop(self) -> None:
        self.ports.stop()
        self._stopping.set()
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    # What people ask

    def load(self, name: str) -> None:
        """Take the bindings of this file. Raises ConfigError, ControlError, and then the former stay."""
        path = bindings.find(name)
        found = bindings.read_map(path)
        with self._lock:
            self._name, self._path, self._stamp = name, path, _stamp(path)
            self._hands = [Hand(binding) for binding in found.bind]
            self._bound = tuple(map(_bound, found.bind))

    def learn(self, binding: bindings.Binding | None, page: str = "") -> None:
        """Bind the control that moves next, or none any more. `page`: the one that asked."""
        with self._lock:
            self._learner = None if binding is None else Learner(binding, page)
        self._tell()

    def forget(self, to: str, args: Sequence[object] = ()) -> None:
        """With `args`, only what has these. Raises ControlError if nothing is bound to it."""
        with self._lock:
            bindings.forgotten(self._path, self._name, to, args)
            self.load(self._name)

    def bound(self) -> list[bindings.Binding]:
        with self._lock:
            return [hand.binding for hand in self._hands]

    def wiring(self) -> Wiring:
        """For pages, many times a second: without the lock, which is held while a file is written."""
        bound, learner = self._bound, self._learner
        if learner is None:
            return Wiring(bound)
        return Wiring(bound, _bound(learner.binding, on=""), learner.page)

    # The libraries' threads

    def _heard(self, port: str, message: Any, at_ns: int) -> None:
        if len(self._inbox) == MAX_INBOX:
            self._metrics.count("midi.lost")
        self._inbox.append((port, message, at_ns))
        self._bell.set()

    # Our thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            waits = any(gather.waiting for gather in self._gathers.values()) or self._learner is not None
            self._bell.wait(SOON_S if waits else IDLE_S)
            self._bell.clear()
            try:
                self.turn(self._clock())
            except Exception:  # whatever it was: controllers that are dead until the restart are worse
                log.exception("the MIDI thread stumbled")
                self._metrics.count("midi.errors")
                time.sleep(0.05)

    def turn(self, at_ns: int) -> None:
        """Everything that has come, and what is due."""
        while self._inbox:
            port, message, when_ns = self._inbox.popleft()
            self._metrics.count("midi.messages")
            gather = self._gathers.setdefault(port, Gather())
            if not self._clocks.take(port, message, seconds(when_ns)):
                self._events(port, gather.take(message, when_ns), when_ns)
        for port, gather in self._gathers.items():
            self._events(port, gather.flush(at_ns), at_ns)
        self._finish_learning(at_ns)
        with self._lock:
            if self._learner is None:  # else a port that echoes would teach us itself
                self._feedback.turn(self._hands, self._store.values(), at_ns)
        if at_ns >= self._next_look_ns:
            self._next_look_ns = at_ns + LOOK_NS
            self._reread()
            self._tell()

    def _events(self, port: str, events: list[Event], at_ns: int) -> None:
        for event in events:
            for move, binding in self._moves(port, event, at_ns):
                try:
                    self._do(move, binding)
                except LiveLatentError as error:
                    self._refuse(f"{binding.on} → {move.to}: {error}")

    def _moves(self, port: str, event: Event, at_ns: int) -> list[tuple[Move, bindings.Binding]]:
        """What this event is meant to do; nothing while something is being learnt."""
        out = []
        with self._lock:
            if self._learner is not None:
                self._learner.offer(port, event, at_ns)
                return []
            for hand in self._hands:
                if hand.hears(port, event):
                    here = self._store.values()[hand.spec.name] if hand.spec is not None else None
                    if (move := hand.act(event, here)) is not None:
                        out.append((move, hand.binding))
        return out

    def _do(self, move: Move, binding: bindings.Binding) -> None:
        key = " ".join(map(str, (move.to, *binding.args)))
        if move.row:
            settings = (self._store.check(move.row, move.args[0], move.over_s, ORIGIN),)
            if binding.quantise:
                self._director.later(key, binding.quantise, lambda at_ns: self._store.apply(settings, at_ns))
            else:
                self._store.apply(settings, self._clock())
            return
        act = self._find(move.to)
        assert act is not None  # bindings are checked

        def then(at_ns: int) -> None:
            act(move.args, ORIGIN)

        self._director.later(key, binding.quantise, then)

    def _refuse(self, text: str) -> None:
        self._metrics.count("midi.refused")
        self._metrics.gauge("error", text)
        if (now := self._clock()) >= self._next_word_ns:
            self._next_word_ns = now + NS
            log.warning("%s", text)

    def _finish_learning(self, at_ns: int) -> None:
        with self._lock:
            found = self._learner.due(at_ns) if self._learner is not None else None
            if found is None or self._learner is None:
                return
            wanted, self._learner = self._learner.binding, None
            binding = bindings.for_control(wanted, found.event.control, found.port)
            try:
                bindings.learnt(self._path, self._name, binding)
                self.load(self._name)
            except LiveLatentError as error:
                self._refuse(f"{found.event.control} can't be learnt for {wanted.to}: {error}")
                return
        log.info("learnt: %s of %s → %s", binding.on, binding.port, binding.to)

    def _reread(self) -> None:
        """Take over a file that was edited."""
        with self._lock:
            path = bindings.find(self._name)
            if (path, stamp := _stamp(path)) == (self._path, self._stamp):
                return
            self._path, self._stamp = path, stamp
            try:
                self.load(self._name)
                log.info("the bindings %s were edited: taken over", self._name)
            except ConfigError as error:
                # Half a file, or a mistake in it: the bindings stay as they were.
                self._refuse(str(error))

    def _tell(self) -> None:
        names = self.ports.names()
        with self._lock:
            learning = f"learning {self._learner.binding.to}: move a control" if self._learner is not None else ""
        if names or learning:
            self._metrics.gauge("midi.state", " · ".join(filter(None, (learning, ", ".join(names)))))
        elif self.ports.changes:
            self._metrics.gauge("midi.state", "nothing is plugged in")


def _bound(binding: bindings.Binding, on: str | None = None) -> Bound:
    return Bound(binding.on if on is None else on, binding.port, binding.to, tuple(bindings.following(binding)))


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1
