"""Finished frames in shared memory, by name: `shm[?name=livelatent-out]`. Any program of this user can read them."""

from __future__ import annotations

import re
from contextlib import suppress

from bridge.clock import NS, now_ns
from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.errors import SinkError, WireError
from bridge.frame import Frame
from bridge.pacing import Pace
from bridge.ring import RingReader, RingWriter
from bridge.ring_layout import DEFAULT_CAPACITY
from bridge.shm import remove

DEFAULT_NAME = "livelatent-out"
LIVE_S = 5.0
"""A segment whose writer runs and wrote within this time is somebody's."""
_CHECK_NS = NS // 2


def ring_name(text: str) -> str:
    """For `DriverSpec.take`: a name that every platform takes."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,29}", text):
        raise ValueError("a name is 1 to 30 letters, digits, or any of . _ -")
    return text


class ShmSink:
    """Writes the Ring of docs/wire.md. Readers come and go as they like; it knows none of them."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        self.pace = Pace()
        self._name = name
        self._ring: RingWriter | None = None
        self._checked_ns = 0

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> ShmSink:
        return cls(**spec.take(name=ring_name))

    def open(self) -> None:
        self.close()
        try:
            self._ring = _claim(self._name)
        except WireError as error:
            raise SinkError(f"shared memory {self._name!r}: {error}") from error
        self._checked_ns = now_ns()

    def write(self, frame: Frame) -> None:
        if self._ring is None:
            raise SinkError("the shared-memory sink is not open")
        if now_ns() - self._checked_ns > _CHECK_NS:
            self._check_name()
        try:
            self._ring.write(*self._wrap(frame, self._ring))
        except WireError as error:
            raise SinkError(f"shared memory {self._name!r}: {error}") from error

    def _wrap(self, frame: Frame, ring: RingWriter) -> tuple[Frame, bytes]:
        """What goes into the ring: a frame and a blob."""
        return frame, b""

    def _check_name(self) -> None:
        """The resource tracker of a killed run may remove the name just after we took it over: make it anew then."""
        self._checked_ns = now_ns()
        if self._ring is not None and not self._ring.named():
            self.open()

    def close(self) -> None:
        ring, self._ring = self._ring, None
        if ring is None:
            return
        ours = ring.current
        ring.close()
        if ours:
            ring.unlink()
        else:
            ring.disown()

    def describe(self) -> str:
        return f"shared memory {self._name}" + ("" if self._ring else " (closed)")


def _claim(name: str) -> RingWriter:
    """A ring of this name: new, or what a dead run left behind. Raises SinkError while its writer lives."""
    with suppress(FileExistsError):
        return RingWriter.create(name=name)
    try:
        former = RingReader(name)
    except (FileNotFoundError, WireError):
        remove(name)
        return _create(name)
    alive = former.writer_alive(LIVE_S)
    former.close()
    if alive:
        raise SinkError(f"shared memory {name!r} is in use by another run; choose another with shm?name=NAME")
    with suppress(FileNotFoundError, WireError):
        heir = RingWriter.attach(name, adopt=True)
        if heir.capacity == DEFAULT_CAPACITY:
            return heir
        heir.close()
    remove(name)
    return _create(name)


def _create(name: str) -> RingWriter:
    try:
        return RingWriter.create(name=name)
    except FileExistsError as error:
        raise SinkError(f"shared memory {name!r} is in use; choose another with shm?name=NAME") from error
