"""The whole program with the fake engine (or another), every snapshot that its feeder takes noted, every cue too."""

from __future__ import annotations

import time
from collections.abc import Callable

from pythonosc.udp_client import SimpleUDPClient

from bridge.app import App
from bridge.clock import NS
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.frame import Frame
from bridge.show.player import Fire, Player
from pipelines.params import Params

FPS = 60
PATIENT_S = 30.0
"""Of a busy machine's workers none counts as stalled, for a test that counts those that were replaced."""


class Run:
    """Notes every snapshot that the feeder takes, when and what, and every cue that fires."""

    def __init__(self, **more: object) -> None:
        values = {
            "source": f"scene?size=128x128&fps={FPS}",
            "sinks": ("null",),
            "params": {"width": 128, "height": 128},
            "worker": WorkerConfig(engine="fake", fake={"ms": 2.0}, stall_s=PATIENT_S),
            "osc": OscConfig(port=0),
            "web": WebConfig(enabled=False),
        }
        self.app = App(Config(**{**values, **more}))  # type: ignore[arg-type]
        self.frames: list[Frame] = []
        self.fed: list[tuple[int, Params]] = []
        self.app.output.sinks[0].tap = self._new
        take = self.app.feeder._snapshot

        def noted() -> Params:
            # At a time of ours, so that what a frame has can be compared with what was due by then.
            at_ns = time.perf_counter_ns()
            params = self.app.director.snapshot(at_ns)
            self.fed.append((at_ns, params))
            return params

        assert take == self.app.director.snapshot
        self.app.feeder._snapshot = noted
        try:
            self.app.start()
            self.osc = SimpleUDPClient("127.0.0.1", self.app.control.port)
            self.until(lambda: len(self.frames) > 3, 90.0)  # with a real model on a busy machine
        except BaseException:
            self.app.close()
            raise

    def _new(self, frame: Frame) -> None:
        """Not what a sink repeats while nothing new comes: a test that waits for pictures means painted ones."""
        if not self.frames or frame is not self.frames[-1]:
            self.frames.append(frame)

    def close(self) -> None:
        self.osc._sock.close()
        self.app.close()

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.app.metrics.snapshot()
            time.sleep(0.005)

    def note_cues(self) -> Player:
        """Keep what the player fires in `fired`."""
        player = self.app.director.playing()
        advance = player.advance
        self.fired: list[Fire] = []

        def noted(at_s: float) -> list[Fire]:
            out = advance(at_s)
            self.fired += out
            return out

        player.advance = noted  # type: ignore[method-assign]
        return player

    def check_cues(self, seed: Callable[[Fire], int]) -> None:
        """A frame has the last cue that was due by its own time, and no other: none fires late, none early."""
        fed = list(self.fed)  # before what has fired by then: both go on growing
        times = [fire.at_s for fire in self.fired]
        seeds = [seed(fire) for fire in self.fired]
        last = -1
        for at_ns, params in fed:
            while last + 1 < len(times) and times[last + 1] <= at_ns / NS:
                last += 1
            if last > 0:  # the first came from a hand, which the frame at that moment may just have missed
                assert params.seed == seeds[last], (at_ns / NS, times[last])

    def lateness(self) -> list[tuple[float, float]]:
        """Of each cue but the first: its time, and the seconds to the first frame that was fed after it."""
        fed, out, place = [at_ns / NS for at_ns, _ in self.fed], [], 0
        for fire in self.fired[1:]:
            while place < len(fed) and fed[place] < fire.at_s:
                place += 1
            out += [(fire.at_s, fed[place] - fire.at_s)] if place < len(fed) else []
        return out
