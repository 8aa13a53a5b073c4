"""The process that measures rows of `livelatent bench gpu`, each when it is asked for: `python -m bridge.bench_rows`.

One of its own, as a compiler, a driver or a card may end it: then that row is lost and no other. Orders are lines on
its stdin, what it found are lines on its stdout; it ends with its stdin.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import numpy as np

from bridge.bench_said import Order, Said
from bridge.clock import MS, now_ns
from bridge.frame import Frame, Stamps
from bridge.lent import LentRing
from bridge.ring import RingReader, RingWriter
from engines.errors import ModelError, first_line
from pipelines import bench_gpu
from pipelines.bench_cases import Case, find
from pipelines.bench_gpu import Bench
from pipelines.params import Params, pack, unpack
from pipelines.spec import Stream

MOST_S = 8.0
"""A case that is so slow has been measured well enough by then."""


class Rows:
    """Measures what it is asked for, and keeps networks and peaks for the next."""

    def __init__(self, smoke: bool) -> None:
        """Raises ModelError, a sentence, where there is no card."""
        self._smoke = smoke
        self.device = bench_gpu.device(smoke)
        self.bench = Bench(64 if smoke else 512, self.device, bench_gpu.machine_of(self.device))
        self._peaks: dict[str, float] = {}

    @property
    def facts(self) -> dict[str, str]:
        """What is known by now of the machine."""
        peaks = {f"peak {dtype} TFLOP/s": f"{found:.3g}" for dtype, found in self._peaks.items()}
        return {**bench_gpu.facts(self.device), "size": str(self.bench.size), **peaks, **self.bench.found}

    def __call__(self, order: Order) -> Said:
        case = find(order.name, self._smoke)
        if why := bench_gpu.unfit(case, self.device):
            return Said(order.name, left_out=why, facts=self.facts)
        try:
            row = self._row(case, order)
            return Said(order.name, row=row, facts=self.facts)
        except Exception as error:  # whatever a card, a driver or somebody else's package raises: the rest is measured
            traceback.print_exc()
            wrong = first_line(error, 300)
        self.bench.forget()
        return Said(order.name, wrong=wrong, facts=self.facts)

    def usable(self) -> bool:
        """Whether the card still answers: an error of some kinds stays for all that follows in a process."""
        try:
            bench_gpu.wait(self.device)
        except RuntimeError:
            return False
        return True

    def _row(self, case: Case, order: Order) -> dict[str, float]:
        if case.engine == "StreamDiffusion":
            plain, _ = self.bench.networks(case)
            return bench_gpu.streamdiffusion(plain, case.kind, self.bench.size, order.frames, order.streamdiffusion)
        if case.made not in self._peaks:
            small = (256, 2) if self._smoke else ()
            self._peaks[case.made] = bench_gpu.peak(self.device, case.made, *small)
        return measure(self.bench, case, order.frames, self._peaks[case.made], order.seconds)


def measure(bench: Bench, case: Case, frames: int, peak: float, seconds: float = 0.0) -> dict[str, float]:
    """One row. `peak`: TFLOP/s. `seconds`: what a build may take."""
    pixels = np.random.default_rng(1).integers(0, 256, (bench.size, bench.size, 3), np.uint8)
    flops = bench.flops(case, pixels)
    stream = bench.stream(case, seconds)
    try:
        bench_gpu.memory(bench.device)
        still = case.params()
        looped = loop(stream, pixels, lambda n: still, frames)
        moved = loop(stream, pixels, lambda n: case.params(strength=0.3 + 0.6 * (n % 50) / 50), frames)
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


def main() -> int:
    """0 when there are no more orders; 2, with a sentence on stdout, where there is no card; 3 where the card does not
    answer any more."""
    stdout = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever libraries print is no report

    def tell(said: Said) -> None:
        stdout.write(msgspec.json.encode(said) + b"\n")

    try:
        rows = Rows(smoke="--smoke" in sys.argv)
    except ModelError as error:
        tell(Said(wrong=str(error)))
        return 2
    tell(Said(facts=rows.facts))
    for line in sys.stdin.buffer:
        tell(rows(msgspec.json.decode(line, type=Order)))
        if not rows.usable():
            return 3
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a driver that hangs while it is taken down would be waited for
