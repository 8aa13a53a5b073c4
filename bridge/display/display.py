"""Between the worker's pictures and the sinks: the last picture moved on as the input moves, at the display's rate.

Off, every picture goes straight through. On, each tick shows the newest picture as it would be now: moved along the
flow from its own input to the newest, and a little further. No later frame is waited for; and since every tick shows
the moment of the tick, it does not matter for the motion how pictures and ticks fall against each other.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.clock import MS, NS, now_ns
from bridge.display.budget import Budget
from bridge.frame import Frame, Pixels
from bridge.metrics import Metrics
from bridge.output import Output
from bridge.pacing import Grid
from pipelines.params import Params

if TYPE_CHECKING:
    from bridge.display.track import Track

log = logging.getLogger("livelatent.display")

FULL_S, GONE_S = 0.75, 1.5
"""A picture up to the first age is moved all the way; then what is shown fades to the picture as it was painted."""
WAITING = 8
"""Inputs between two ticks; of more, the oldest are not looked at."""
LEAST = 24
"""Hz: less is off."""
PAUSES_S = (10.0, 30.0, 120.0, 600.0)
"""After giving up, once more and again: what keeps a machine busy, such as the start of a standby, may be over soon."""
HELD_NS = 60 * NS
"""A rate that was kept for so long begins with the first pause again."""
ASIDE, BACK = 0.95, 1.1
"""Of a tick: pictures that come in less time than the first are shown as they come, until they take more than the
second."""


class Display:
    """`fed`, `follow` and `put` never wait; the work is done on a thread of its own, there from the first use on."""

    def __init__(self, output: Output, metrics: Metrics, possible: bool = True) -> None:
        """`possible`: false where every frame is painted and written in turn, in no real time."""
        self._output, self._metrics, self._possible = output, metrics, possible
        self._change = threading.Condition()
        self._wake = threading.Event()
        self._stopped = False
        self._asked = (0.0, 0, 0)
        self._rate = self._wanted = 0.0
        self._said = ""
        self._pause_s: float | None = None
        """After giving up, until it is tried again."""
        self._inputs: deque[tuple[Frame, Params]] = deque(maxlen=WAITING)
        self._arrivals: deque[int] = deque(maxlen=16)
        self._aside = False
        self._picture: Frame | None = None
        self._fresh = False
        self._shown: Frame | None = None
        self._follows = True
        self._thread: threading.Thread | None = None

    # The frames' way

    def fed(self, frame: Frame, params: Params) -> None:
        """A frame is about to be fed, at its stamp."""
        if self._rate:
            self._inputs.append((frame, params))

    def follow(self, params: Params) -> None:
        """The parameters of this moment."""
        self._follows = params.mode != "txt2img" and not params.pause
        asked = (params.display_rate if self._possible else 0.0, params.width, params.height)
        if asked == self._asked:
            return
        self._asked = asked
        self._turn(0.0 if asked[0] < LEAST else asked[0])

    def put(self, picture: Frame) -> None:
        """A new picture from the worker."""
        self._output.arrived(picture)
        with self._change:
            self._arrivals.append(now_ns())
            self._aside = self._stands_aside()
            if self._fresh:
                self._metrics.count("display.skipped")
            self._picture, self._fresh = picture, self._rate > 0 and self._follows and not self._aside
            if not self._fresh:
                self._output.offer(picture)
                self._shown = picture

    def flush(self) -> None:
        """What waits for a tick goes out now."""
        with self._change:
            if self._fresh and self._picture is not None:
                self._output.offer(self._picture)
                self._shown = self._picture
            self._fresh = False

    def stop(self) -> None:
        self._stopped = True
        self._turn(0.0)
        if self._thread is not None:
            self._thread.join(2.0)

    def _turn(self, rate: float) -> None:
        with self._change:
            self._rate, self._wanted, self._pause_s = rate, rate, None
            self._change.notify()
        self._wake.set()
        if not rate:
            self.flush()
            self._inputs.clear()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ll-display", daemon=True)
            self._thread.start()
        self._say("")

    def _say(self, said: str) -> None:
        """Why it was given up, if it was; that is no error any more when it is tried again, or not wanted."""
        self._metrics.gauge("display.state", said or (f"{self._rate:g} Hz" if self._rate else "off"))
        if said:
            self._metrics.gauge("error", said)
        elif self._said:
            self._metrics.unsay("error", self._said)
        self._said = said

    def _stands_aside(self) -> bool:
        if not self._rate or len(self._arrivals) < 4:
            return False
        every_ns = (self._arrivals[-1] - self._arrivals[0]) / (len(self._arrivals) - 1)
        return every_ns * self._rate < (BACK if self._aside else ASIDE) * NS

    # The thread

    def _run(self) -> None:
        tries = 0
        while not self._stopped:
            rate = self._await()
            began = now_ns()
            said = self._try(rate) if rate else ""
            if not said or now_ns() - began > HELD_NS:
                tries = 0
            if said:
                self._give_up(rate, said, PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1

    def _await(self) -> float:
        """The rate, when there is one; after a pause, that which was given up. 0 at the end, or if it is off again."""
        with self._change:
            self._change.wait_for(lambda: self._rate or self._stopped, self._pause_s)
            if self._pause_s is None or self._rate or self._stopped:
                return 0.0 if self._stopped else self._rate
            self._rate, self._pause_s = self._wanted, None
        self._say("")
        return self._rate

    def _try(self, rate: float) -> str:
        try:
            return self._show(rate)
        except Exception as error:  # the show goes on without, whatever was wrong with this picture
            log.exception("display")
            return f"display_rate is given up: {error}"

    def _give_up(self, rate: float, said: str, pause_s: float) -> None:
        said = f"{said}; again in {pause_s:g} s"
        with self._change:
            if self._rate != rate:
                return  # another one is asked for already
            self._rate, self._pause_s = 0.0, pause_s
        log.warning("%s", said)
        self.flush()
        self._say(said)

    def _show(self, rate: float) -> str:
        """Until the rate changes, or why it can't be kept."""
        from bridge.display.track import Track  # OpenCV, which a start need not wait for

        self._wake.clear()
        self._inputs.clear()
        track, budget, grid = Track(), Budget(rate), Grid(rate, now_ns())
        while self._rate == rate and not self._stopped:
            if (left := grid.next_ns - now_ns()) > 0:
                if self._wake.wait(left / NS):
                    self._wake.clear()
                continue
            began = now_ns()
            if not self._aside:
                self._tick(track)
            ended = now_ns()
            missed = grid.wrote(ended, True)
            self._metrics.observe("display", (ended - began) / MS)
            if self._picture is not None and (said := budget.tick((ended - began) / NS, missed)):
                return said
        return ""

    def _tick(self, track: Track) -> None:
        picture = self._picture
        if picture is None:
            return
        self._look(track, picture.pixels)
        shown = self._moved(track, picture, now_ns())
        with self._change:
            # A newer one that came meanwhile has its turn at the next tick, or has gone out already.
            if picture is not self._picture or not self._rate:
                return
            self._fresh = False
            if shown is not self._shown:
                self._output.offer(shown)
                self._shown = shown
        if shown is not picture:
            self._metrics.count("output.warped")

    def _look(self, track: Track, picture: Pixels) -> None:
        from bridge.display.motion import Layout

        size = (picture.shape[0], picture.shape[1])
        new: list[tuple[Frame, Layout]] = []
        while self._inputs:
            frame, params = self._inputs.popleft()
            new.append((frame, Layout((frame.height, frame.width), size, params.fit)))
        track.add(new)

    def _moved(self, track: Track, picture: Frame, at_ns: int) -> Frame:
        """The picture as it would be now; itself where that is not known, or nothing moves."""
        age_s = (at_ns - picture.stamps.captured) / NS
        left = min(1.0, (GONE_S - age_s) / (GONE_S - FULL_S))
        if not self._follows or left <= 0:
            return picture
        from bridge.display.warp import along

        way = track.to_now(picture.stamps.fed, picture.pixels.shape[:2], at_ns)
        if way is None:
            return picture
        pixels = along(picture.pixels, way, left)
        return picture if pixels is picture.pixels else replace(picture, pixels=pixels, moved=way.captured)
