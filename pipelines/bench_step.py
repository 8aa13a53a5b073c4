"""What `step` costs beside the networks inside it, both timed in one run, turn by turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from pipelines.img2img import step
from pipelines.params import Params
from pipelines.stream import DiffusionStream


class _Time(NamedTuple):
    """Seconds."""

    wall: float
    processor: float
    """Of all threads of this process."""


def bench_step(
    stream: DiffusionStream, params: Params, frames: int = 100, input_size: int | None = None
) -> dict[str, float]:
    """Milliseconds: `networks` (encode, the UNet's runs, decode, on the same tensors), `step`, `frame` (the whole call,
    upload and download included), medians of `frames` turns; `overhead`, the median over turns of step / networks - 1;
    `processor`, the same of the processor time that all threads took together, which tells little where a card paints,
    and on a busy machine tells more than the clock.

    `input_size`: side of the square RGB input; the model's own size if None, so that nothing has to be resized.
    """
    height, width = stream.size if input_size is None else (input_size, input_size)
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    stream(pixels, params)
    bare, whole = networks(stream), _step(stream, pixels)
    runs = (bare, whole, lambda: stream(pixels, params))
    turns = [_turn(runs, backwards=n % 2 == 1) for n in range(frames + 4)][4:]
    bares, steps, calls = (statistics.median(t.wall for t in column) * 1e3 for column in zip(*turns, strict=True))
    overhead = statistics.median(b.wall / a.wall for a, b, _ in turns) - 1.0
    processor = statistics.median(b.processor / a.processor for a, b, _ in turns) - 1.0
    figures = {"networks": bares, "step": steps, "frame": calls, "overhead": overhead, "processor": processor}
    return {**figures, "frames": float(frames)}


def networks(stream: DiffusionStream) -> Callable[[], None]:
    """The networks' calls of the mode that `stream` painted in last, and nothing else."""
    nets, knobs, mode = stream.nets, stream.knobs, stream.knobs.mode
    image = stream.state.picture.clone(memory_format=torch.preserve_format)
    batch = 2 if mode.guidance == "full" else 1
    cond = knobs.both if batch == 2 else knobs.positive

    @torch.inference_mode()
    def run() -> None:
        x = nets.encode(image) if mode.work == "img2img" else knobs.blank
        for i in range(mode.steps):
            x = x.expand(batch, -1, -1, -1)
            x = nets.unet(x, knobs.levels.t[i], cond, knobs.guidance, **knobs.foreknown.look(nets.unet, i, x, knobs))[
                :1
            ]
        nets.decode(x)
        _wait(nets.device)

    return run


def _step(stream: DiffusionStream, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Callable[[], None]:
    frame = torch.from_numpy(pixels).to(stream.nets.device)

    def run() -> None:
        step(frame, stream.knobs, stream.state, stream.nets)
        _wait(stream.nets.device)

    return run


def _turn(runs: Sequence[Callable[[], object]], backwards: bool) -> list[_Time]:
    """Seconds of each; every other turn in the opposite order, so that none always follows the same one."""
    times = [_time(run) for run in (reversed(runs) if backwards else runs)]
    return times[::-1] if backwards else times


def _time(run: Callable[[], object]) -> _Time:
    began, used = time.perf_counter(), time.process_time()
    run()
    return _Time(time.perf_counter() - began, time.process_time() - used)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
