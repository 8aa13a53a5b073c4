"""Frames over NDI: `ndi[:NAME][?ips=10.0.0.5,10.0.0.6&groups=NAMES]`.

NAME is any part of a sender's name in any case; without one, the first sender of this machine that is not ourselves.
All calls to the library are made on a thread that nobody waits for, since some take seconds when a sender is gone.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from bridge import ndi
from bridge.clock import MS, NS, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import DriverError, SourceError
from bridge.frame import Frame, Stamps
from bridge.metrics import Metrics
from bridge.ndi import Announced, Picture
from bridge.slot import LatestSlot
from bridge.sources.freshness import Freshness, capture_stamp

require = ndi.require
"""For the doctor: whether this driver has what it needs."""
CONNECT_NS = 3 * NS
"""A receiver that has no connection after this is made anew."""
LOST_NS = 300 * MS
"""One whose connection ended, after this; at once where the sender is in the list under another address."""
_CAPTURE_S = 0.1
_LOOK_S = 0.2
LET_GO_S = 0.3
MAX_ABANDONED = 3
_MARK = re.compile(r'<livelatent seq="(\d{1,19})" captured="(\d{1,19})" media="(-1|\d{1,19})"/>')


def mark(frame: Frame) -> str:
    """What our sink sends along with a picture, so that a receiver on this machine knows its age and number."""
    return f'<livelatent seq="{frame.seq}" captured="{frame.stamps.captured}" media="{frame.media_ns}"/>'


def choose(senders: Sequence[Announced], wanted: str, own: set[str], lan: bool) -> Announced | None:
    """The sender that `wanted` means: a whole name before a part of one, this machine before others, then by name.

    Without `lan`, senders of other machines are not considered. Never one of our own (`own`).
    """

    def rank(sender: Announced) -> tuple[bool, bool, str]:
        stream = sender.name.partition(" (")[2].removesuffix(")")
        whole = word in (sender.name.casefold(), stream.casefold())
        return not whole, not sender.local, sender.name

    word = wanted.casefold()
    found = [s for s in senders if s.name not in own and word in s.name.casefold() and (lan or s.local)]
    return min(found, key=rank, default=None)


class NdiSource:
    """Receives one sender, and waits for it while it is away."""

    def __init__(
        self,
        metrics: Metrics,
        wanted: str = "",
        *,
        lan: bool = False,
        ips: Sequence[str] = (),
        groups: str = "",
        library: Any = None,
    ) -> None:
        """`library` is for tests: something like `bridge.ndi.Library`."""
        self._metrics, self._wanted, self._lan, self._ips, self._groups = metrics, wanted, lan, ips, groups
        self._library = library or ndi.library()
        self._freshness = Freshness(metrics)
        self._pump: _Pump | None = None
        self._next_seq = 0
        self._refused = 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> NdiSource:
        options = spec.take(ips=_addresses, groups=str)
        return cls(context.metrics, spec.target, lan=context.config.lan.enabled, **options)

    def open(self) -> None:
        """Always succeeds, but for a library that hangs: a sender that is not there yet is waited for in `read`."""
        self.close()
        self._pump = _Pump(self._library, self._wanted, self._lan, self._ips, self._groups, self._next_seq)

    def read(self, timeout: float) -> Frame | None:
        pump = self._pump
        if pump is None:
            raise SourceError("the NDI source is not open")
        frame = pump.slot.take(timeout)
        if pump.refused != self._refused:
            self._metrics.count("source.rejected", pump.refused - self._refused)
            self._refused = pump.refused
        if frame is None:
            self._freshness.missed()
            if pump.error:
                raise SourceError(pump.error)
            return None
        self._freshness.arrived(frame.pixels, f"{frame.width}x{frame.height} {frame.format}")
        self._next_seq = frame.seq + 1
        return frame

    def close(self) -> None:
        pump, self._pump = self._pump, None
        self._refused = 0
        if pump is not None:
            pump.let_go(LET_GO_S)

    def describe(self) -> str:
        pump = self._pump
        if pump is None:
            return "NDI (closed)"
        return f"NDI {pump.state}: {self._freshness.describe()}"


_abandoned: list[threading.Thread] = []


class _Pump:
    """Finder and receiver, on a thread of their own. `slot` receives the frames; `error` says why none will come."""

    def __init__(self, library: Any, wanted: str, lan: bool, ips: Sequence[str], groups: str, first_seq: int) -> None:
        _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
        if len(_abandoned) >= MAX_ABANDONED:
            raise SourceError(f"{MAX_ABANDONED} earlier NDI calls still hang; start livelatent again")
        self.slot: LatestSlot[Frame] = LatestSlot()
        self.error = ""
        self.state = "looking for senders"
        self.refused = 0
        self._library, self._wanted, self._lan = library, wanted, lan
        self._ips, self._groups, self._seq = ips, groups, first_seq
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ll-ndi", daemon=True)
        self._thread.start()

    def let_go(self, deadline_s: float) -> None:
        self._stop.set()
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            _abandoned.append(self._thread)

    def _run(self) -> None:
        try:
            finder = self._library.finder(self._ips, self._groups)
            try:
                while not self._stop.is_set():
                    sender = self._await_sender(finder)
                    if sender is not None:
                        self._receive(sender, finder)
            finally:
                finder.close()
        except DriverError as error:
            self.error = str(error)
        finally:
            if not self._stop.is_set():
                self.error = self.error or "receiving NDI ended unexpectedly"
            self.slot.close()

    def _await_sender(self, finder: Any) -> Announced | None:
        senders = finder.senders()
        sender = choose(senders, self._wanted, self._library.own, self._lan)
        if sender is None:
            self.state = _nobody(self._wanted, senders, self._library.own, self._lan)
            finder.senders(_LOOK_S)
        return sender

    def _receive(self, sender: Announced, finder: Any) -> None:
        """Until its connection is lost."""
        self.state = f"{sender.name}, connecting"
        receiver = self._library.receiver(sender)
        try:
            was_connected, alive_ns = False, now_ns()
            local = sender.local
            while not self._stop.is_set():
                try:
                    picture = receiver.capture(_CAPTURE_S)
                except ValueError as error:
                    self.refused += 1
                    self.state = f"{sender.name}: {error}"
                    time.sleep(0.001)
                    continue
                if picture is not None:
                    self.state = sender.name
                    self._deliver(picture, local)
                if picture is not None or receiver.connected:
                    was_connected, alive_ns = True, now_ns()
                elif now_ns() - alive_ns > (LOST_NS if was_connected else CONNECT_NS):
                    self.state = f"{sender.name} is gone"
                    return
                elif choose(finder.senders(), self._wanted, self._library.own, self._lan) != sender:
                    return
        finally:
            receiver.close()

    def _deliver(self, picture: Picture, local: bool) -> None:
        now = now_ns()
        captured, media_ns = now, -1
        marked = _MARK.fullmatch(picture.metadata)
        if local and marked:
            captured, media_ns = capture_stamp(int(marked[2])), int(marked[3])
        elif local and picture.sent_ns > 0:
            # The same wall clock: what it says about the way, said by our clock.
            captured = capture_stamp(now - max(0, time.time_ns() - picture.sent_ns))
        self._seq += picture.skipped
        self.slot.put(Frame(picture.pixels, self._seq, Stamps(captured=captured), media_ns))
        self._seq += 1


def _nobody(wanted: str, senders: Sequence[Announced], own: set[str], lan: bool) -> str:
    others = [s for s in senders if s.name not in own]
    beyond = [s.name for s in others if wanted.casefold() in s.name.casefold() and not s.local]
    if beyond and not lan:
        return f"{beyond[0]} is on another machine: run with --lan to allow that"
    there = f"there are {', '.join(s.name for s in others[:5])}" if others else "there is none"
    return f"waiting for a sender {wanted!r} ({there})" if wanted else f"waiting for a sender ({there})"


def _addresses(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in parts:
        if not re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", part):
            raise ValueError("expected IPv4 addresses with commas between them")
    return parts
