"""How the input moved since a picture's own input: flow on small grey copies, and how far it can be believed.

No clock and no thread here. Flow is backward, in pixels of the small copy: what is at p now was at p + flow[p] then.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bridge.frame import Pixels
from engines.fit import Box, Fit, source_box, target_box

Floats = NDArray[np.float32]

SIDE = 128
"""The longer side of the small copy: flow is smooth, and its cost grows with the area."""
EXPLAINED = 15.0
"""Levels of difference between the input and its past moved along: less, and the flow explains the place."""
BELIEVED, DOUBTED = 25.0, 60.0
"""Up to the first the flow of a place is taken as it is, from the second on that of its neighbours."""
SPREAD = 9
"""Pixels of the small copy over which a place that can't be believed asks its neighbours."""
_GREY = {3: cv2.COLOR_RGB2GRAY, 4: cv2.COLOR_RGBA2GRAY}


class Layout(NamedTuple):
    """How the input sits in the picture, as the model's own fitting does it (pipelines/prepare.py)."""

    shape: tuple[int, int]
    """The input's height and width."""
    size: tuple[int, int]
    """The picture's."""
    fit: Fit

    @property
    def source(self) -> Box:
        """The part of the input that is in the picture."""
        return source_box(*self.shape, *self.size, self.fit)

    @property
    def target(self) -> Box:
        """Where in the picture it is."""
        return target_box(*self.shape, *self.size, self.fit)


class Glimpse(NamedTuple):
    """A frame of the input, small and grey."""

    grey: Pixels
    """(h, w), of `layout.source` in the shape of `layout.target`."""
    layout: Layout
    captured: int


class Flow(NamedTuple):
    """From one glimpse back to an earlier one of the same layout."""

    vectors: Floats
    """(h, w, 2), x before y."""
    trust: float
    """The share of the picture that it explains, 0 to 1."""


def glimpse(pixels: Pixels, layout: Layout, captured: int) -> Glimpse:
    """`pixels`: uint8 (h, w, 1 | 3 | 4) of the layout's shape."""
    box, target = layout.source, layout.target
    part = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
    scale = min(1.0, SIDE / max(target.height, target.width))
    size = max(16, round(target.width * scale)), max(16, round(target.height * scale))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    code = _GREY.get(pixels.shape[2])
    return Glimpse(np.asarray(small if code is None else cv2.cvtColor(small, code)), layout, captured)


class Estimator:
    """Dense inverse search (Kroeger et al. 2016). Belongs to one thread."""

    def __init__(self) -> None:
        # Without the variational refinement: on copies this small it costs more than it brings, by `bench display`.
        self._whole = _search(finest=0, rounds=12)
        self._rough = _search(finest=1, rounds=8)

    def __call__(self, now: Glimpse, then: Glimpse) -> Flow:
        """What of `now` was where in `then`. What the flow does not explain (uncovered, wrong, another light) takes the
        motion around it."""
        return self._with(self._whole, now, then)

    def step(self, now: Glimpse, then: Glimpse) -> Flow:
        """The same for two inputs that follow each other, at a fifth of the cost: what moves a little is found so."""
        return self._with(self._rough, now, then)

    def _with(self, search: Any, now: Glimpse, then: Glimpse) -> Flow:
        # A stray vector would tear a speck out of the picture.
        raw = cv2.merge([cv2.medianBlur(part, 3) for part in cv2.split(search.calc(now.grey, then.grey, None))])
        error = _error(now.grey, then.grey, raw)
        trust = np.clip((DOUBTED - error) * (1 / (DOUBTED - BELIEVED)), 0.0, 1.0)
        return Flow(_filled(raw, trust), float(np.mean(error < EXPLAINED)))


def _search(finest: int, rounds: int) -> Any:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(finest)
    search.setGradientDescentIterations(rounds)
    search.setVariationalRefinementIterations(0)
    return search


def _error(now: Pixels, then: Pixels, flow: Floats) -> Floats:
    """(h, w), levels: how the present differs from the past moved along, but for its brightness as a whole."""
    moved = cv2.remap(then, grid(*now.shape) + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    difference = now.astype(np.float32) - moved
    difference -= np.median(difference[::4, ::4])
    return np.asarray(cv2.blur(np.abs(difference), (3, 3)))


def _filled(flow: Floats, trust: Floats) -> Floats:
    """The flow where it can be believed; elsewhere the mean of what is believed around."""
    weight = cv2.blur(trust, (SPREAD, SPREAD)) + 1e-3
    around = cv2.blur(flow * trust[..., None], (SPREAD, SPREAD)) / weight[..., None]
    return np.asarray(around + (flow - around) * trust[..., None], np.float32)


def ahead(flow: Floats, last: Floats, share: float) -> Floats:
    """`flow` carried on by `share` of `last`, the flow of the input's last step, as if the motion went on evenly."""
    step = last * share
    return np.asarray(
        step + cv2.remap(flow, grid(*flow.shape[:2]) + step, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


@lru_cache(maxsize=4)
def grid(height: int, width: int) -> Floats:
    """(h, w, 2): each pixel's own place, x before y."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.ascontiguousarray(np.stack([x, y], 2), np.float32)
