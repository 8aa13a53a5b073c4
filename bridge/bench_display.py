"""`livelatent bench display`: what display_rate shows between painted pictures, against what would have been painted.

Every input of a clip is painted. Then a show is played back in virtual time, in which the painter is slow: at each tick
of the display there are the newest input and a picture that is one painting old. Held and moved along are compared with
the picture of the tick's own input; so the figures do not depend on how busy this machine is, but for the costs.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np

from bridge.bench_coherence import read_clip
from bridge.clock import MS, NS
from bridge.config import Config
from bridge.display.motion import Layout
from bridge.display.track import Track
from bridge.display.warp import along
from bridge.errors import ConfigError, LiveLatentError
from bridge.frame import Frame, Pixels, Stamps
from bridge.opening import initial_params
from engines.fit import Fit
from engines.registry import Registry
from pipelines.params import Params
from pipelines.spec import DType, StreamSpec, structural

LOOKED_BACK = 16
"""Ticks: how late what is shown may be found to be."""

Table = dict[str, dict[str, float]]
Pairs = Sequence[tuple[Pixels, Pixels]]
"""A picture, and the input that it was painted of as the model sees it; for each frame of a clip."""


class Tick(NamedTuple):
    """One moment of the show."""

    at_ns: int
    inputs: list[Frame]
    """Those since the tick before, with their stamps."""
    fed_ns: int
    """Stamp of the input of the newest picture."""
    newest: int
    """The frame of the clip that this picture is of."""
    right: int
    """The frame of this moment."""


def run(args: argparse.Namespace, base: Mapping[str, Any]) -> Table:
    """Figures of `hold` and `moved`. ConfigError, LiveLatentError or ModelError with a sentence."""
    params = initial_params(Config(params=dict(base)), Registry.open())
    if args.display % args.fps:
        raise ConfigError(f"--fps {args.fps} is no whole part of --display {args.display}")
    clip = read_clip(args.source or f"scene?size={args.size}x{args.size}&fps={args.display}", args.frames, params)
    ticks = show(clip, args.display, args.fps, args.painted)
    if len(ticks) < 2 * LOOKED_BACK:
        raise LiveLatentError(f"{len(clip)} frames are too few: it takes {2 * LOOKED_BACK} after the first picture")
    return compare(ticks, paint_all(clip, params, args.dtype), args.display, params.fit)


def paint_all(clip: Sequence[Pixels], params: Params, dtype: DType) -> Pairs:
    """Of every frame in order, by the ordinary stream."""
    from pipelines.stream import DiffusionStream

    stream = DiffusionStream.load(structural(StreamSpec(dtype=dtype), params), params)
    try:
        stream.warm_up(params)
        seen = msgspec.structs.replace(params, bypass=True)
        fitted = [stream(frame, seen).copy() for frame in clip]
        return [(stream(frame, params).copy(), small) for frame, small in zip(clip, fitted, strict=True)]
    finally:
        stream.close()


def show(clip: Sequence[Pixels], display: int, fps: int, painted: float) -> list[Tick]:
    """The ticks of a show with `fps` inputs and `painted` pictures a second. `clip` has one frame a tick. The painter
    takes the newest input, and begins again when it is done."""
    every, out, seen = display // fps, list[Tick](), -1
    for at in range(len(clip)):
        begun = int(at * painted / display + 1e-9) - 1
        if begun < 0:
            continue
        of = int(begun * display / painted + 1e-9) // every * every
        inputs = [_input(clip, n, display) for n in range(seen + 1, at + 1) if n % every == 0]
        out.append(Tick(_ns(at, display), inputs, _ns(of, display), of, at))
        seen = at
    return out


def _ns(number: int, display: int) -> int:
    return NS + number * NS // display


def _input(clip: Sequence[Pixels], number: int, display: int) -> Frame:
    return Frame(clip[number], number, Stamps(_ns(number, display), _ns(number, display)))


def compare(ticks: Sequence[Tick], pairs: Pairs, display: int, fit: Fit) -> Table:
    """Both over the same ticks; and what would be painted, with itself."""
    track = Track()

    def moved(tick: Tick) -> Callable[[Pixels], Pixels]:
        height, width = pairs[tick.newest][0].shape[:2]
        track.add([(frame, Layout((frame.height, frame.width), (height, width), fit)) for frame in tick.inputs])
        way = track.to_now(tick.fed_ns, (height, width), tick.at_ns)
        return (lambda picture: picture) if way is None else (lambda picture: along(picture, way))

    rows = {"hold": _row(ticks, pairs, display, lambda tick: lambda picture: picture)}
    rows["moved"] = _row(ticks, pairs, display, moved)
    rows["painted"] = _row([tick._replace(newest=tick.right) for tick in ticks], pairs, display, lambda tick: np.copy)
    for row in rows.values():
        row["error %"] = 100 * row["error"] / rows["hold"]["error"]
        row["motion %"] = 100 * row["motion"] / rows["hold"]["motion"]
    return rows


def _row(
    ticks: Sequence[Tick], pairs: Pairs, display: int, way: Callable[[Tick], Callable[[Pixels], Pixels]]
) -> dict[str, float]:
    """error: levels from the picture that would have been painted, mean; motion: the same for the model's input, moved
    as the picture is. lag: ms by which the input that this is most like is older. unevenness: of the change from tick
    to tick, its spread over its mean. sharpness: in percent of the pictures that would have been painted."""
    shown, inputs, costs = [], [], []
    for tick in ticks:
        began = time.thread_time_ns()
        move = way(tick)
        shown.append(move(pairs[tick.newest][0]))
        costs.append((time.thread_time_ns() - began) / MS)
        inputs.append(move(pairs[tick.newest][1]))
    right = [pairs[tick.right] for tick in ticks]
    changes = [_difference(a, b) for a, b in itertools.pairwise(shown)]
    lags = [
        min(range(LOOKED_BACK + 1), key=lambda back: _difference(inputs[at], right[at - back][1]))
        for at in range(LOOKED_BACK, len(ticks))
    ]
    return {
        "error": float(np.mean([_difference(a, b) for a, (b, _) in zip(shown, right, strict=True)])),
        "error %": 0.0,
        "motion": float(np.mean([_difference(a, b) for a, (_, b) in zip(inputs, right, strict=True)])),
        "motion %": 0.0,
        "lag ms": float(np.mean(lags)) * 1000 / display,
        "unevenness": float(np.std(changes) / max(1e-9, float(np.mean(changes)))),
        "sharpness %": 100 * _sharpness(shown) / _sharpness([picture for picture, _ in right]),
        "ms a tick": float(np.median(costs)),
    }


def _difference(a: Pixels, b: Pixels) -> float:
    return float(cv2.norm(a, b, cv2.NORM_L1)) / a.size


def _sharpness(pictures: Sequence[Pixels]) -> float:
    greys = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures)
    return float(np.mean([cv2.Laplacian(grey, cv2.CV_64F).var() for grey in greys]))
