"""`livelatent bench gpu`: real architectures with random weights on this card, frame by frame through the rings.

What matters most comes first, every row is written as soon as it is known, and when the time is over the rest is left
out by name. With `--smoke` tiny networks run on a processor that emulates a card: whether it works, not how fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.clock import MS, now_ns
from bridge.frame import Frame, Stamps
from bridge.lent import LentRing
from bridge.ring import RingReader, RingWriter
from pipelines.params import Params, pack, unpack
from pipelines.spec import Stream

if TYPE_CHECKING:
    from pipelines.bench_gpu import Bench, Case

Table = dict[str, dict[str, float]]
COLUMNS = (
    "frames/s", "p50 ms", "p99 ms", "moved/s", "latency ms",
    "enter ms", "walk ms", "leave ms", "TFLOP/s", "% of peak", "GiB",
)  # fmt: skip
RESERVE_S = 5.0
BUILD_S = 60.0
"""With less than this left no build is begun."""
MOST_S = 8.0
"""A case that is so slow has been measured well enough by then."""


def run(args: argparse.Namespace) -> Table:
    """Every case that the time allows; a failing one is named, and the next one is measured."""
    from pipelines import bench_gpu

    device = bench_gpu.device(args.smoke)
    size = 64 if args.smoke else 512
    until = time.monotonic() + args.budget
    bench = bench_gpu.Bench(size, device, bench_gpu.machine_of(device))
    report = Report(args, bench_gpu.facts(device) | {"size": str(size)})
    peaks = {dtype: bench_gpu.peak(device, dtype, *((256, 2) if args.smoke else ())) for dtype in dtypes(args)}
    report.facts |= {f"peak {dtype} TFLOP/s": f"{found:.3g}" for dtype, found in peaks.items()}
    for case in cases(args):
        left = until - RESERVE_S - time.monotonic()
        if why := bench_gpu.unfit(case, device) or late(case, left):
            report.left_out[case.name] = why
            continue
        try:
            report.add(case.name, measure(bench, case, args, peaks[case.made], left))
            if case.engine == "compiled" and not report.peers and args.streamdiffusion:
                report.peers = True
                found = bench_gpu.streamdiffusion(bench.plain, case.kind, size, args.frames, args.streamdiffusion)
                report.add(f"StreamDiffusion, {case.kind}, 1 step, {case.dtype}", found)
        except Exception as error:  # whatever a card, a driver or somebody else's package raises: the rest is measured
            report.wrong(case.name, error)
    report.write()
    return report.table


def late(case: Case, left: float) -> str:
    """Why there is no time for a case, `left` seconds before the end; nothing where there is."""
    if left < 0.0:
        return "no time"
    return "no time for a build: see --budget and --rows" if case.engine == "tensorrt" and left < BUILD_S else ""


def dtypes(args: argparse.Namespace) -> Sequence[Any]:
    return ("fp32",) if args.smoke else ("fp16", "bf16", "fp16-accumulate")


def cases(args: argparse.Namespace) -> list[Case]:
    """What is measured, what matters most first; of that what --rows names."""
    return [case for case in every_case(args.smoke) if args.rows in case.name]


def every_case(smoke: bool) -> Iterator[Case]:
    from pipelines.bench_gpu import Case

    if smoke:
        yield from (Case("tiny", engine, "fp32") for engine in ("compiled", "eager"))
        yield Case("tiny", "compiled", "fp32", steps=2, controls=1, temporal=True)
        yield Case("tiny", "tensorrt", "fp32")
        return
    turbo = Case("sd-turbo", "compiled")
    yield from (turbo, turbo._replace(controls=1), turbo._replace(engine="eager"))
    yield from (turbo._replace(steps=2), turbo._replace(steps=4), turbo._replace(controls=2))
    yield from (turbo._replace(temporal=True), turbo._replace(controls=1, temporal=True))
    yield from (turbo._replace(dtype="fp16-accumulate"), turbo._replace(engine="eager", dtype="fp16-accumulate"))
    yield turbo._replace(engine="eager", controls=1)
    lcm = turbo._replace(kind="sd15")
    yield from (lcm._replace(steps=steps) for steps in (1, 2, 4))
    yield from (lcm._replace(engine="eager"), lcm._replace(controls=1), lcm._replace(temporal=True))
    large = turbo._replace(kind="sdxl-turbo")
    yield from (large, large._replace(engine="eager"))
    yield from (turbo._replace(dtype="bf16"), turbo._replace(engine="eager", dtype="bf16"))
    # last, as a build takes minutes: they get what is left
    yield from (turbo._replace(engine="tensorrt", dtype=dtype) for dtype in ("fp16", "fp8"))


def measure(bench: Bench, case: Case, args: argparse.Namespace, peak: float, seconds: float = 0.0) -> dict[str, float]:
    """One row. `seconds`: what a build may take."""
    from pipelines import bench_gpu

    pixels = np.random.default_rng(1).integers(0, 256, (bench.size, bench.size, 3), np.uint8)
    flops = bench.flops(case, pixels)
    stream = bench.stream(case, seconds)
    try:
        bench_gpu.memory(bench.device)
        still = case.params()
        looped = loop(stream, pixels, lambda n: still, args.frames)
        moved = loop(stream, pixels, lambda n: case.params(strength=0.3 + 0.6 * (n % 50) / 50), args.frames)
        if wrong := bench_gpu.failed(stream):
            raise RuntimeError(wrong)
        spans = dict(zip(("enter ms", "walk ms", "leave ms"), bench_gpu.stages(stream), strict=False))
        rate = flops * looped["frames/s"] / 1e12
        shares = {"TFLOP/s": rate, "% of peak": 100 * rate / peak, "GiB": bench_gpu.memory(bench.device)}
        if case.made != case.dtype:
            del shares["% of peak"]  # the peak of fp8 was not measured
        return {**looped, "moved/s": moved["frames/s"], **spans, **shares}
    finally:
        stream.close()


@contextmanager
def lent(stream: Stream, ring: RingWriter) -> Iterator[LentRing]:
    """As a worker lends its ring to its stream."""
    places = LentRing(ring)
    stream.lend(places)
    try:
        yield places
    finally:
        stream.lend(None)


def loop(
    stream: Stream, pixels: np.ndarray[Any, np.dtype[np.uint8]], params: Callable[[int], Params], frames: int
) -> dict[str, float]:
    """Frames as a worker paints them, each out of one ring and into another, with a new one always there."""
    done, latencies, flying = list[int](), list[float](), deque[Frame]()
    until = time.monotonic() + MOST_S
    with (
        closing(RingWriter.create(pixels.nbytes)) as source,
        closing(RingReader(source.name)) as ring_in,
        closing(RingWriter.create(pixels.nbytes)) as ring_out,
        lent(stream, ring_out) as places,
    ):
        for n in range(frames + 10):
            if time.monotonic() > until and len(done) > 10:
                break
            if flying:
                time.sleep(stream.wait_s())
            source.write(Frame(pixels, n, Stamps(now_ns())), pack(params(n)))
            view = ring_in.view()
            assert view is not None, "the frame that was just written is not there"
            got = view.item
            stream.begin(got.frame.pixels, unpack(got.blob), None, view.valid)
            flying.append(got.frame)
            if len(flying) < stream.depth:
                continue
            picture, frame = stream.end(), flying.popleft()
            places.write(Frame(picture, frame.seq, frame.stamps), 0)
            done.append(now_ns())
            latencies.append((done[-1] - frame.stamps.captured) / MS)
        while flying:
            flying.popleft()
            stream.end()
        source.unlink()
        ring_out.unlink()
    times = np.diff(np.asarray(done[5:])) / MS
    return {
        "frames/s": 1e3 / float(times.mean()),
        "p50 ms": float(np.percentile(times, 50)),
        "p99 ms": float(np.percentile(times, 99)),
        "latency ms": float(np.percentile(latencies[5:], 50)),
    }


class Report:
    """The table so far, on the screen and in files."""

    def __init__(self, args: argparse.Namespace, facts: dict[str, str]) -> None:
        self._json, self._markdown = args.json, args.table
        self.facts = facts
        self.table: Table = {}
        self.left_out: dict[str, str] = {}
        """Why, by the case's name."""
        self.failures: dict[str, str] = {}
        self.peers = False

    def add(self, name: str, row: dict[str, float]) -> None:
        self.table[name] = row
        print(f"{name}: {row['frames/s']:.1f} frames/s, p50 {row['p50 ms']:.2f} ms", file=sys.stderr, flush=True)
        self.write()

    def wrong(self, name: str, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self.failures[name] = lines[0][:300]
        print(f"{name}: {self.failures[name]}", file=sys.stderr, flush=True)
        self.write()

    def write(self) -> None:
        """Into the files that were asked for, whole each time."""
        if self._json:
            head = {"bench": "gpu", "date": date.today().isoformat(), **self.facts}
            rest = {"rows": self.table, "failed": self.failures, "left out": self.left_out}
            Path(self._json).write_text(json.dumps({**head, **rest}, indent=2) + "\n")
        if self._markdown:
            Path(self._markdown).write_text(self.markdown())

    def markdown(self) -> str:
        """As docs/bench/ has it."""
        lines = [f"# {self.facts['device']}, {date.today().isoformat()}", ""]
        lines += [f"- {name}: {value}" for name, value in self.facts.items()]
        lines += ["", f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        for name, row in self.table.items():
            cells = [f"{row[column]:.4g}" if column in row else "" for column in COLUMNS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", *(f"- failed: {name}: {why}" for name, why in self.failures.items())]
        lines += [f"- left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join(lines).rstrip() + "\n"
