"""Measures the engine openvino against eager for one spec, in a process of its own: `python -m pipelines.judge`.

A StreamSpec as a line of JSON on stdin, a Verdict as JSON on stdout. Ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from engines.base import Nets
from engines.errors import ModelError
from engines.openvino_device import installed
from pipelines import gate
from pipelines.choose import Verdict
from pipelines.params import Params
from pipelines.spec import StreamSpec
from pipelines.stream import DiffusionStream
from pipelines.transfer import Pixels

FRAMES = 4
"""Pictures that are compared."""
TURNS = 5
"""How often each engine paints them for the clock, turn by turn."""
GAIN = 1.05
"""openvino has to be so many times as fast: less is within what such a measurement can tell."""


def judge(spec: StreamSpec) -> Verdict:
    """Paint the same frames with both, compare pictures and times. Leaves openvino's networks in its cache."""
    params = Params(prompt="neon", model=spec.model, width=spec.width, height=spec.height)
    frames = scenes(spec.height, spec.width)
    exact = _stream(replace(spec, engine="eager", device="cpu", dtype="fp32"), params)
    wanted = pictures(exact, frames, params)
    exact.close()
    del exact
    try:
        ours = _stream(replace(spec, engine="openvino"), params)
    except ModelError as error:
        return Verdict("eager", f"openvino failed: {error}"[:200], failed=True)
    theirs = _stream(replace(spec, engine="eager", device="cpu"), params)
    found = pictures(ours, frames, params)
    likeness = min(gate.likeness(a, b) for a, b in zip(found, wanted, strict=True))
    distance = max(gate.distance(a, b) for a, b in zip(found, wanted, strict=True))
    times = [_times(stream, frames, params) for _ in range(TURNS) for stream in (theirs, ours)]
    eager, openvino = statistics.median(times[::2]), statistics.median(times[1::2])
    ours.close()
    theirs.close()
    return verdict(eager, openvino, likeness, distance)


def verdict(eager_ms: float, openvino_ms: float, likeness: float, distance: float) -> Verdict:
    """What follows from the figures."""
    figures = eager_ms, openvino_ms, likeness, distance
    if likeness < gate.LIKENESS or distance > gate.DISTANCE:
        why = f"openvino's pictures differ from eager's: likeness {likeness:.3f}, distance {distance:.3f}"
        return Verdict("eager", why, *figures)
    times = f"{openvino_ms:.0f} against eager's {eager_ms:.0f} ms of processor time a frame"
    if eager_ms < GAIN * openvino_ms:
        return Verdict("eager", f"openvino is not faster here: {times}", *figures)
    return Verdict("openvino", f"openvino is {eager_ms / openvino_ms:.1f} times as fast here: {times}", *figures)


def scenes(height: int, width: int) -> list[Pixels]:
    """Fixed inputs: soft shapes and sharp edges, always the same."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    out = []
    for _ in range(FRAMES):
        picture = np.zeros((height, width, 3))
        for _ in range(6):
            cx, cy, radius, edge = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.1, 0.4), rng.uniform(0.005, 0.2)
            disc = np.clip((radius - np.hypot(x - cx, y - cy)) / edge, 0, 1)[..., None]
            picture = picture * (1 - disc) + rng.uniform(0, 255, 3) * disc
        out.append(picture.astype(np.uint8))
    return out


def pictures(stream: DiffusionStream, frames: Sequence[Pixels], params: Params) -> list[Tensor]:
    """What it paints of them, [1, 3, H, W] in [-1, 1]; each frame as a stream's first."""
    out = []
    for frame in frames:
        stream.reset()
        stream(frame, params)
        out.append(stream.state.picture.clone())
    return out


def _stream(spec: StreamSpec, params: Params) -> DiffusionStream:
    nets = _nets(spec)
    stream = DiffusionStream(nets, (spec.height, spec.width), params)
    stream.tune(params)
    stream.warm_up(params)
    return stream


def _nets(spec: StreamSpec) -> Nets:
    from engines.eager import EagerEngine
    from pipelines.choose import build_of

    if spec.threads:
        torch.set_num_threads(spec.threads)
    folder, build = build_of(spec)
    if spec.engine == "eager":
        return EagerEngine().load(folder, build)
    from engines.openvino import OpenvinoEngine

    return OpenvinoEngine(here=True).load(folder, build)


def _times(stream: DiffusionStream, frames: Sequence[Pixels], params: Params) -> float:
    """Milliseconds of processor time a frame, all threads together. The clock would tell how much others left: a show
    runs beside this, and both engines spread over the same cores."""
    began = time.process_time()
    for frame in frames:
        stream(frame, params)
    return (time.process_time() - began) * 1e3 / len(frames)


def main() -> int:
    """0 when a Verdict was written; 1 when there was nothing to judge."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print is no verdict
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(10)
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=StreamSpec)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        found = judge(spec) if installed() else Verdict("eager", "openvino is not installed")
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    stdout.write(msgspec.json.encode(found))
    stdout.close()
    return 0


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
