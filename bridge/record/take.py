"""One recording: pictures handed over by whoever has them, written by a thread of its own.

Handing over never waits. What the thread can't keep up with is left out, counted, and said in the next line. When the
disc is full or broken the recording ends with a sentence, what is written stays playable, and the show goes on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge.clock import NS, now_ns
from bridge.errors import LiveLatentError, SinkError
from bridge.frame import Frame, Made, Pixels
from bridge.record.journal import Fed
from bridge.record.lines import Header, Line, LineWriter
from bridge.record.made import acting_of
from bridge.record.places import Format
from bridge.record.reel import Reel, open_reel

log = logging.getLogger("livelatent.record")

MAX_WAITING = 240
MAX_WAITING_BYTES = 384 << 20
KEEP_FREE = 128 << 20
"""Bytes: with less left on the disc a recording ends, before the whole machine is in trouble."""
LOOK_NS = NS
NICE = 10
"""Encoding comes after painting where processors are short."""

Room = Callable[[Path], int]


class Shot(NamedTuple):
    """One picture with all that belongs to it."""

    picture: Frame | None
    """None for one that did not go out."""
    made: Made
    fed: Fed
    lost: int
    """Pictures left out since the one before."""

    @property
    def bytes(self) -> int:
        frames = (self.picture, self.fed.frame)
        return sum(frame.pixels.nbytes for frame in frames if frame is not None)


class Take:
    """`offer` and `stop` may be called from any thread; `done` is set when the files are closed."""

    def __init__(
        self,
        folder: Path,
        format: Format,
        header: Header,
        *,
        number: int = 0,
        own_time: bool = False,
        room: Room = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        """`number`: of the `Params.take` with which the input is recorded from its first frame on; 0 records none.
        `own_time`: pictures have the times of their medium. `room`: free bytes, for tests. Raises SinkError."""
        self.folder, self.format = folder, format
        self.frames = self.lost = 0
        self.began_ns = 0
        """When the first picture was made; 0 before it."""
        self.error = ""
        self.done = threading.Event()
        self._number, self._own_time, self._room = number, own_time, room
        self._started = False
        self._change = threading.Condition()
        self._waiting: deque[Shot] = deque()
        self._bytes = self._unsaid = 0
        self._stopping = False
        self._lines = LineWriter(folder, header)
        self._picture = open_reel(folder, "picture", format)
        self._input: Reel | None = open_reel(folder, "input", "mkv") if number else None
        self._inputs = 0
        self._last: tuple[Pixels, int, str] | None = None
        """The input that was written last, its number and hash: several pictures may be made of one."""
        self._looked_ns = 0
        self._thread = threading.Thread(target=self._run, name="ll-record", daemon=True)
        self._thread.start()

    # Any thread

    @property
    def ending(self) -> bool:
        """Whether it takes no more."""
        return self._stopping or self.done.is_set()

    def offer(self, picture: Frame | None, made: Made, fed: Fed | None) -> None:
        """A picture, and what it was made by and of; None for one that was painted and did not go out. Returns at
        once."""
        if fed is None or (picture is None and not self._number):
            return
        if not self._started and self._number and fed.params.take != self._number:
            return  # painted before the recording's first frame was fed
        self._started = True
        shot = Shot(picture, made, fed if self._number else fed._replace(frame=None), self._unsaid)
        with self._change:
            if self.ending:
                return
            if len(self._waiting) >= MAX_WAITING or self._bytes + shot.bytes > MAX_WAITING_BYTES:
                self.lost += picture is not None
                self._unsaid += 1
                return
            self._waiting.append(shot)
            self._bytes, self._unsaid = self._bytes + shot.bytes, 0
            self._change.notify()

    def stop(self) -> None:
        """Finish what has been handed over. Returns at once."""
        with self._change:
            self._stopping = True
            self._change.notify()

    def join(self, deadline_s: float) -> None:
        """After `stop`: until the files are closed."""
        if not self.done.wait(deadline_s):
            log.warning("the recording %s takes too long to finish; left behind", self.folder.name)
        self._thread.join(0.5)

    # The thread

    def _run(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            while (shot := self._next()) is not None:
                self._look()
                self._write(shot)
        except LiveLatentError as error:
            self._fail(error)
        finally:
            with self._change:
                self._stopping = True
                self._waiting.clear()
            self._close()
            self.done.set()

    def _next(self) -> Shot | None:
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._stopping)
            if not self._waiting:
                return None
            shot = self._waiting.popleft()
            self._bytes -= shot.bytes
            return shot

    def _look(self) -> None:
        at = now_ns()
        if at - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = at
        try:
            free = self._room(self.folder)
        except OSError as error:
            raise SinkError(f"{self.folder} is gone: {error.strerror or error}") from error
        if free < KEEP_FREE:
            raise SinkError(f"the disc is full: only {free >> 20} MB are left")

    def _write(self, shot: Shot) -> None:
        picture, made, fed, lost = shot
        frame = picture or fed.frame
        if frame is None:
            return  # overtaken, and its input is gone, too
        at = frame.media_ns if self._own_time and frame.media_ns >= 0 else frame.stamps.done or frame.stamps.fed
        if not self.began_ns:
            self.began_ns, self._start_ns = now_ns(), at
        number, shape, digest = self._keep_input(fed.frame, at)
        line = Line(
            n=self.frames,
            t=round((at - self._start_ns) / NS, 6),
            seq=frame.seq,
            version=fed.params.version,
            epoch=made.epoch,
            stamps=frame.stamps,
            media=frame.media_ns,
            hash=digest_of(picture.pixels) if picture is not None else "",
            input=number,
            shape=shape,
            input_hash=digest,
            lost=lost,
            unseen=picture is None,
        )
        if picture is not None:
            self._picture.write(picture.pixels, at)
        self._lines.add(line, fed.params, acting_of(made), made.spec)
        self.frames += picture is not None

    def _keep_input(self, frame: Frame | None, at: int) -> tuple[int | None, tuple[int, int, int] | None, str]:
        """Number, shape (if it is new) and hash of the input."""
        if self._input is None or frame is None:
            return None, None, ""
        last, pixels = self._last, frame.pixels
        if last is not None and last[0] is pixels:
            return last[1], None, last[2]
        new = last is None or last[0].shape != pixels.shape
        number, digest = self._inputs, digest_of(pixels)
        self._input.write(pixels, at)
        self._last, self._inputs = (pixels, number, digest), number + 1
        height, width, channels = pixels.shape
        return number, (height, width, channels) if new else None, digest

    def _close(self) -> None:
        for part in (self._picture, self._input, self._lines):
            try:
                if part is not None:
                    part.close()
            except (LiveLatentError, OSError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.error:
            self.error = str(error)
            log.error("the recording %s has ended: %s", self.folder.name, error)


def digest_of(pixels: Pixels) -> str:
    """The bytes' BLAKE2b of 64 bits, as hexadecimal text."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8).hexdigest()
