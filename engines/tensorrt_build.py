"""From a model's folder to engines in the cache, for the card that is here. Takes minutes, and is done once.

`python -m engines.tensorrt_build` is an errand (engines.errand): an Order comes in, how far it is goes out, and it can
be called off. In a process of its own, since the builder takes gigabytes and has been known to end processes.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from engines.cache import EngineCache, Entry, name_of
from engines.errand import accept
from engines.errors import ModelError, first_line
from engines.tensorrt_api import Card, check, last_error, logger, this_card
from engines.tensorrt_graph import Kept, Part, parts, refittable, write
from engines.tensorrt_order import AHEAD, Order
from engines.tensorrt_program import Program
from engines.tensorrt_progress import Progress, monitor

if TYPE_CHECKING:
    import tensorrt as trt

TRIES = {"unet": 2}
"""The denoiser is built so often, and the fastest is kept: what the builder measures is never twice the same."""
RUNS = 20
Shapes = dict[str, tuple[int, ...]]


class Stage(msgspec.Struct, frozen=True):
    """How far an order is."""

    part: str
    """Which network."""
    share: float
    """Of the whole order, 0..1."""
    phase: str
    """What TensorRT calls what it does."""


def carry_out(
    order: Order, card: Card, cache: EngineCache, tell: Callable[[Stage], None] = lambda _: None,
    cancelled: threading.Event | None = None,
) -> None:  # fmt: skip
    """Compile and keep what is not there yet. Raises ModelError, and OSError where the cache can't be written."""
    check()
    off = cancelled or threading.Event()
    lacking = [part for part, name in order.names.items() if cache.get(name) is None]
    builds = {part: TRIES.get(part, 1) for part in lacking if part != AHEAD}
    whole, done = sum(builds.values()), 0
    for part, notes in parts(order, lacking):
        if off.is_set():
            raise ModelError("the build was called off")
        if isinstance(part, Kept):
            cache.put(order.names[AHEAD], part.facts, part.content)
            continue
        with tempfile.TemporaryDirectory(prefix="livelatent-") as folder:
            path = write(part, Path(folder))
            fixed = order.precision in ("fp8", "int8") or part.name != "unet"
            notes |= {"weights": {} if fixed else refittable(part, path)}
            notes |= {"inputs": list(part.graph.inputs), "outputs": list(part.graph.outputs)}
            began = done

            def report(turn: int, share: float, phase: str, name: str = part.name, began: int = began) -> None:
                tell(Stage(name, (began + turn + share) / whole, phase))

            plan = best(part, path, notes, card, cache, report, off.is_set)
        cache.put(order.names[part.name], notes, memoryview(plan))
        done += builds[part.name]


def best(
    part: Part, path: Path, notes: dict[str, Any], card: Card, cache: EngineCache,
    report: Callable[[int, float, str], None], cancelled: Callable[[], bool],
) -> trt.IHostMemory:  # fmt: skip
    """The fastest of so many builds as `TRIES` says. The first may use what earlier builds measured, so that a second
    model is built in less time; the others measure anew, else they would be the first one again."""
    timings = name_of("timings", check(), card.facts())
    known = cache.get(timings)
    plans: list[tuple[float, trt.IHostMemory]] = []
    count = TRIES.get(part.name, 1)
    for turn in range(count):

        def tell(share: float, phase: str, turn: int = turn) -> None:
            report(turn, share, phase)

        seen = bytes(known.content) if known is not None and turn == 0 else b""
        plan, measured = compiled(part, path, seen, bool(notes["weights"]), Progress(tell, cancelled), cancelled)
        if turn == 0:
            cache.put(timings, {}, memoryview(measured))
        plans.append((timed(plan, notes, card) if count > 1 else 0.0, plan))
    return min(plans, key=lambda each: each[0])[1]


def compiled(
    part: Part, path: Path, timings: bytes, refit: bool, progress: Progress, cancelled: Callable[[], bool]
) -> tuple[trt.IHostMemory, trt.IHostMemory]:
    """One build: the engine, and what the builder measured. Raises ModelError."""
    import tensorrt as trt

    log = logger()
    last_error()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        said = [f"{error.node_name()}: {error.desc()}" for error in map(parser.get_error, range(parser.num_errors))]
        raise ModelError(f"TensorRT can't read the network {part.name}: {(said or [last_error()])[0][:200]}")
    config = builder.create_builder_config()
    config.max_aux_streams = 0  # everything on the one stream that a frame is captured from
    config.progress_monitor = listener = monitor(progress)
    if refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")  # of another build of TensorRT
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            raise ModelError(f"TensorRT makes no timing cache: {last_error()}")
    for rows in (1, 2) if part.rows else (1,):
        profile = builder.create_optimization_profile()
        for name, shape in shapes(part, rows).items():
            profile.set_shape(name, shape, shape, shape)
        if config.add_optimization_profile(profile) < 0:
            raise ModelError(f"TensorRT refuses the shapes of {part.name}: {last_error()}")
    plan = builder.build_serialized_network(network, config)
    del listener
    if plan is None:
        why = "it was called off" if cancelled() else last_error()
        raise ModelError(f"TensorRT did not build the network {part.name}: {why}")
    return plan, cache.serialize()


def shapes(part: Part, rows: int) -> Shapes:
    """Of every input, with so many rows."""
    return {
        name: (rows, *x.shape[1:]) if name in part.rows else tuple(x.shape) for name, x in part.graph.inputs.items()
    }


def timed(plan: trt.IHostMemory, notes: dict[str, Any], card: Card) -> float:
    """Milliseconds a run, median, with nothing but zeros."""
    program = Program(Entry(notes, memoryview(plan)), card.device)
    with torch.inference_mode():
        program.zeros(rows=1)
        times = []
        for _ in range(RUNS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            program.zeros(rows=1)
            end.record()
            end.synchronize()
            times.append(float(begin.elapsed_time(end)))
    return statistics.median(times)


def main() -> int:
    """An Order in, a Stage a line out; 0 when it is done, 1 with a sentence on stderr."""
    with accept() as task:
        order = msgspec.json.decode(task.text, type=Order, dec_hook=lambda kind, value: kind(value))
        try:
            card = this_card()
            cache = EngineCache("tensorrt")
            carry_out(order, card, cache, lambda stage: task.tell(msgspec.json.encode(stage)), task.cancelled)
        except (ModelError, OSError) as error:
            print(first_line(error), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
