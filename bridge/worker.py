"""The worker: reads frames from ring A, paints them, writes pictures to ring B. Disposable by design.

`python -m bridge.worker`, started by `bridge.child`. Says nothing on stdout but messages; whatever the libraries print
goes to stderr. Exits when its stdin ends, so it never outlives the bridge.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

import msgspec

from bridge.channel import (
    Activate,
    Beat,
    Fed,
    Hinted,
    Load,
    Painted,
    Quit,
    Ready,
    Refused,
    Sender,
    Skipped,
    from_bridge,
)
from bridge.clock import MS, now_ns, seconds
from bridge.errors import WireError, WorkerError
from bridge.frame import Frame
from bridge.lent import LentRing
from bridge.own_view import OwnView
from bridge.ring import RingFrame, RingReader, RingWriter
from bridge.warm import build_warm
from engines.errors import ModelError
from pipelines.acting import MAX_BYTES
from pipelines.params import Params, unpack
from pipelines.spec import Moment, Overtaken, Stream

BEAT_S = 0.1
TUNE_S = 0.25
"""A standby looks this often whether there is something that takes time: a change, or a prompt that moves."""
YIELD = 5
IDLE_S = 0.05
"""Looks into ring A this often even without a bell."""
PERMANENT = 30
"""So many frames in a row that can't be painted, and the fault is the worker's, not a frame's."""


_encoder = msgspec.msgpack.Encoder()


class Flying(NamedTuple):
    """A frame that was begun."""

    frame: Frame
    taken: int
    """When, in nanoseconds."""
    version: int
    """Of the parameters that it shows."""
    took: bytes
    """What took effect in it: `pipelines.acting.Acting` as msgpack."""


class Taken(NamedTuple):
    """A frame out of ring A."""

    item: RingFrame
    whole: Callable[[], bool] | None
    """Whether nobody has written over it yet; None for a copy."""


class Worker:
    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._receiver = from_bridge(stdin)
        self._sender = Sender(stdout)
        self._bell = threading.Event()
        self._quit = threading.Event()
        self._load: Load | None = None
        self._epoch = 0
        self._busy_since = 0
        self._stream: Stream | None = None
        self._own = OwnView({})
        self._hints: RingWriter | None = None
        self._failures = 0
        self._flying: deque[Flying] = deque()

    def run(self) -> int:
        threading.Thread(target=self._listen, name="ll-listen", daemon=True).start()
        threading.Thread(target=self._beat, name="ll-beat", daemon=True).start()
        while self._load is None:
            if self._quit.is_set():
                return 0
            self._bell.wait(IDLE_S)
        order = self._load
        self._bell.clear()
        try:
            self._stream = self._build(order)
        except ModelError as error:
            self._sender.send(Refused(reason=str(error)))
            return 0
        self._own = OwnView(order.rings_own)
        try:
            self._hints = RingWriter.attach(order.ring_hint) if order.ring_hint else None
            self._paint(self._stream, RingReader(order.ring_in), RingWriter.attach(order.ring_out))
        finally:
            self._own.close()
            if self._hints is not None:
                self._hints.close()
            self._stream.close()
        return 0

    def _listen(self) -> None:
        try:
            while (message := self._receiver.receive()) is not None:
                match message:
                    case Fed():
                        pass
                    case Load():
                        self._load = message
                    case Activate():
                        self._epoch = message.epoch
                    case Quit():
                        self._quit.set()
                self._bell.set()
        except WorkerError as error:
            print(f"worker: {error}", file=sys.stderr)
        # The bridge is gone. The main thread may be deep in a kernel that takes seconds, so nothing is waited for.
        if not self._quit.is_set():
            os._exit(0)

    def _beat(self) -> None:
        while not self._quit.is_set():
            since = self._busy_since
            notes = self._own.add_to(self._stream.notes()) if self._stream is not None else {}
            with contextlib.suppress(WorkerError):
                self._sender.send(Beat(busy_ms=(now_ns() - since) / MS if since else 0.0, notes=notes))
            if sys.platform == "win32":
                # No signal can ask for stacks there, so a timer is set that only a stall lets run out.
                faulthandler.dump_traceback_later(3.0, repeat=False)
            time.sleep(BEAT_S)

    def _build(self, order: Load) -> Stream:
        began = now_ns()
        stream, frame_ms = build_warm(order)
        self._sender.send(Ready(load_s=(now_ns() - began) / 1e9, frame_ms=frame_ms))
        return stream

    def _paint(self, stream: Stream, ring_in: RingReader, ring_out: RingWriter) -> None:
        with contextlib.closing(ring_in), contextlib.closing(ring_out):
            self._stand_by(stream, ring_in)
            stream.go_live()
            lent = LentRing(ring_out)
            stream.lend(lent)
            try:
                while not self._quit.is_set():
                    if not self._turn(stream, ring_in, lent):
                        self._bell.wait(IDLE_S)
                        self._bell.clear()
            finally:
                stream.lend(None)  # a card must let go of the rings before they are unmapped

    def _stand_by(self, stream: Stream, ring_in: RingReader) -> None:
        """Until it is promoted: follow what takes time, so that the picture goes on. Leaves the ring unread."""
        with contextlib.closing(RingReader(ring_in.name)) as ear:
            while not (self._epoch or self._quit.is_set()):
                got = self._next(ear)
                if got is not None:
                    stream.tune(unpack(got.item.blob), _moment(got.item))
                self._bell.wait(TUNE_S)
                self._bell.clear()

    def _next(self, ring_in: RingReader, in_place: bool = False) -> Taken | None:
        """The newest frame: a copy, or as it lies in the ring."""
        try:
            if not in_place:
                got = ring_in.read()
                return Taken(got, None) if got is not None else None
            view = ring_in.view()
            return Taken(view.item, view.valid) if view is not None and view.valid() else None
        except WireError as error:
            self._sender.send(Skipped(seq=-1, reason=str(error)))
            time.sleep(IDLE_S)
            return None

    def _turn(self, stream: Stream, ring_in: RingReader, ring_out: LentRing) -> bool:
        """Begin the newest frame if there is room for one, else end the oldest; whether there was anything to do."""
        flying = self._flying
        if len(flying) < stream.depth:
            if flying:
                time.sleep(min(stream.wait_s(), IDLE_S))
            got = self._next(ring_in, stream.in_place)
            if got is not None:
                self._begin(stream, got.item, got.whole)
                return True
        if flying:
            self._end(stream, ring_out)
            return True
        return False

    def _begin(self, stream: Stream, got: RingFrame, whole: Callable[[], bool] | None = None) -> None:
        taken = now_ns()
        self._busy_since = self._busy_since or taken
        params: Params = unpack(got.blob)
        try:
            self._own.look(stream, params)
            stream.begin(got.frame.pixels, params, _moment(got), whole)
            self._flying.append(Flying(got.frame, taken, stream.version(params), _said(stream.took(params))))
        except Overtaken:  # there is a newer one
            self._busy_since = self._flying[0].taken if self._flying else 0
        except (ModelError, ValueError) as error:
            # A frame or a value that this model can't take: the picture holds, the next frame may work.
            self._failures += 1
            self._sender.send(Skipped(seq=got.frame.seq, reason=str(error)[:500]))
            if self._failures >= PERMANENT:
                raise
            self._busy_since = self._flying[0].taken if self._flying else 0

    def _end(self, stream: Stream, ring_out: LentRing) -> None:
        pixels = stream.end()
        done = now_ns()
        frame, taken, version, took = self._flying.popleft()
        self._busy_since = done if self._flying else 0  # a stall is counted from the last sign of life
        self._failures = 0
        stamps = frame.stamps._replace(taken=taken, done=done)
        picture = Frame(pixels, frame.seq, stamps, frame.media_ns, version)
        ring_out.write(picture, self._epoch)
        self._sender.send(Painted(seq=picture.seq, frame_ms=(done - taken) / MS, fed=stamps.fed, took=took))
        self._show_hint(stream, picture)

    def _show_hint(self, stream: Stream, picture: Frame) -> None:
        """After the picture, which it must not hold up: what a unit was shown for it, if somebody wants to see that."""
        pixels = stream.hint()
        if pixels is not None and self._hints is not None:
            self._hints.write(
                Frame(pixels, picture.seq, picture.stamps, picture.media_ns, picture.version), epoch=self._epoch
            )
            self._sender.send(Hinted(seq=picture.seq))


def _said(took: Mapping[str, object]) -> bytes:
    """For recordings. Too long for a message only with a prompt of a hundred parts: then it goes unsaid."""
    blob = _encoder.encode(took)
    return blob if len(blob) <= MAX_BYTES else b""


def _moment(got: RingFrame) -> Moment:
    return Moment(seconds(got.frame.stamps.fed), got.frame.seq)


def main() -> int:
    stdin = os.fdopen(os.dup(0), "rb")
    stdout = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    faulthandler.enable()
    if hasattr(os, "nice"):
        # When processors are short, frames may come later, but the bridge must never miss a repeat.
        os.nice(YIELD)
    if sys.platform != "win32":
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Worker(stdin, stdout).run()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Interpreter shutdown with native thread pools around can hang or crash; all that matters is closed by now.
    os._exit(code)
