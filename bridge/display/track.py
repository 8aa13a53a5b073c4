"""What is known of the input's motion: a short memory of glimpses, and the way from any picture's input to now."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from bridge.clock import NS
from bridge.display.motion import Estimator, Floats, Flow, Glimpse, Layout, ahead, glimpse
from bridge.frame import Frame

KEPT = 256
"""Glimpses: four seconds at 60 inputs a second, and some 6 MB."""
EXPLAINED, UNEXPLAINED = 0.65, 0.5
"""A flow that explains less of the picture than the first counts less and less, below the second for nothing."""
MOST_AHEAD = 1.5
"""Steps of the input: so far a motion is carried on when no newer input comes. Then it is taken back as slowly."""
LONGEST_STEP_NS = NS // 4
"""Two inputs that are further apart say nothing about the speed of now."""


class Way(NamedTuple):
    """From a picture's input to now."""

    vectors: Floats
    """Backward, (h, w, 2), px of the small copy."""
    amount: float
    """How far it can be believed, 0 to 1."""
    layout: Layout
    captured: int
    """Stamp of the newest input that it was read from."""


class Track:
    """Belongs to one thread."""

    def __init__(self) -> None:
        self._estimate = Estimator()
        self._seen: deque[tuple[int, Glimpse]] = deque(maxlen=KEPT)
        self._newest: Glimpse | None = None
        self._step: tuple[Flow, int] | None = None
        self._scene_ns = 0
        self._way: tuple[Glimpse, Glimpse, Flow] | None = None

    def add(self, frames: list[tuple[Frame, Layout]]) -> None:
        """Inputs that were fed since the last call, oldest first."""
        before = self._newest
        for frame, layout in frames:
            self._see(frame, layout)
        if self._newest is not None and self._newest is not before:
            self._note_step(before, self._newest)

    def _see(self, frame: Frame, layout: Layout) -> None:
        now, last = glimpse(frame.pixels, layout, frame.stamps.captured), self._newest
        # The same picture under another number (a slider moved, or the sender repeats itself) is no step of the motion.
        if last is not None and last.layout == layout and np.array_equal(last.grey, now.grey):
            now = last
        self._newest = now
        self._seen.append((frame.stamps.fed, now))

    def _note_step(self, before: Glimpse | None, now: Glimpse) -> None:
        self._step = None
        if before is None or before.layout != now.layout:
            return
        step = self._estimate.step(now, before)
        if step.trust < UNEXPLAINED:
            self._scene_ns = now.captured  # a cut: what was painted of the scene before it is not moved
        elif 0 < now.captured - before.captured <= LONGEST_STEP_NS:
            self._step = step, now.captured - before.captured

    def to_now(self, fed_ns: int, size: tuple[int, int], at_ns: int) -> Way | None:
        """From the input that was fed at this stamp, of whose picture this is the size. None where that is not known,
        in another scene, or at another size."""
        now, then = self._newest, self._find(fed_ns)
        if now is None or then is None or now.layout != then.layout or now.layout.size != size:
            return None
        if then.captured < self._scene_ns:
            return None
        flow = self._flow(now, then)
        vectors, amount = flow.vectors, (flow.trust - UNEXPLAINED) / (EXPLAINED - UNEXPLAINED)
        if self._step is not None and (share := _share(at_ns - now.captured, self._step[1])) > 0:
            vectors = ahead(vectors, self._step[0].vectors, share)
        return Way(vectors, min(1.0, max(0.0, amount)), now.layout, now.captured)

    def _find(self, fed_ns: int) -> Glimpse | None:
        return next((seen for at, seen in reversed(self._seen) if at == fed_ns), None)

    def _flow(self, now: Glimpse, then: Glimpse) -> Flow:
        known = self._way
        if known is not None and known[0] is now and known[1] is then:
            return known[2]
        flow = Flow(np.zeros((*now.grey.shape, 2), np.float32), 1.0) if now is then else self._estimate(now, then)
        self._way = now, then, flow
        return flow


def _share(age_ns: int, step_ns: int) -> float:
    """How many steps of the input are carried on, `age_ns` after the newest."""
    share = age_ns / step_ns
    return max(0.0, min(share, 2 * MOST_AHEAD - share))
