"""The ordinary loop with ordinary drivers, run for its figures: nothing is bypassed."""

from __future__ import annotations

import argparse
import bisect
import itertools
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from bridge.app import SWITCH_S, App
from bridge.bench_bare import ROUNDS, Bare, Round
from bridge.clock import MS, now_ns
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.context import Context
from bridge.errors import LiveLatentError
from bridge.frame import Frame
from bridge.load_config import parse_value
from bridge.metrics import Metrics

Figures = dict[str, float | str]
DRAWN_S = 2
"""Of the scene, with --drawn."""


class Recording(Metrics):
    """Metrics that forget nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[float]] = {}

    def observe(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)
        super().observe(name, value)


class Arrivals:
    """A tap on a sink: when each write ended, and of which picture."""

    def __init__(self, app: App) -> None:
        self.at_ns: list[int] = []
        self.done_ns: list[int] = []
        app.output.sinks[0].tap = self._written

    def _written(self, frame: Frame) -> None:
        self.at_ns.append(now_ns())
        self.done_ns.append(frame.stamps.done)

    def gap_ms(self, since_ns: int) -> float:
        """The longest time without a write from the last one before `since_ns` on."""
        times = [t for t in self.at_ns if t >= since_ns - 200 * MS]
        return max((b - a for a, b in itertools.pairwise(times) if b >= since_ns), default=0) / MS

    def fresh_after_ms(self, since_ns: int) -> float | None:
        """How long until a picture that was finished after `since_ns` was written."""
        first = bisect.bisect_left(self.done_ns, since_ns)
        return (self.at_ns[first] - since_ns) / MS if first < len(self.at_ns) else None


def percentile(values: list[float], q: float) -> float:
    """Nearest rank; 0.0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))] if ordered else 0.0


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What --set names. Raises ConfigError for what is no parameter."""
    pairs = [text.partition("=")[::2] for text in args.set]
    return {name.strip(): parse_value(name.strip(), value) for name, value in pairs}


def _config(args: argparse.Namespace, **more: Any) -> Config:
    fake = args.what in ("bridge", "kill") and args.engine == "fake"
    values: dict[str, Any] = {
        "sinks": ("null", "preview"),
        "params": {
            "width": args.size,
            "height": args.size,
            **({} if fake else {"model": args.model, **settings(args)}),
        },
        "worker": WorkerConfig(
            engine="fake" if fake else args.engine, fake={"ms": 8.0} if fake else {}, dtype=args.dtype
        ),
        "web": WebConfig(enabled=False),
        "osc": OscConfig(port=0),
        "source": f"scene?size={args.size}x{args.size}&fps={args.fps}&pixels=rgba&drawn={DRAWN_S if args.drawn else 0}",
    }
    return Config(**{**values, **more})


def _run(config: Config, until: Callable[[App, Recording], None]) -> Recording:
    sys.setswitchinterval(SWITCH_S)
    metrics = Recording()
    app = App(config, Context(config, metrics))
    try:
        app.start()
        _wait(lambda: app.output.count > 5, 120.0, app)
        metrics.values.clear()
        until(app, metrics)
    finally:
        app.close()
    return metrics


def _wait(condition: Callable[[], bool], seconds: float, app: App) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LiveLatentError(
                f"nothing came in {seconds:.0f} s ({app.metrics.snapshot().get('error') or 'no error'})"
            )
        time.sleep(0.01)


def bridge(args: argparse.Namespace) -> Figures:
    """Overhead of everything but the worker's own time, with the fake engine: source stamp to sink stamp."""
    frames = max(args.frames, 100)

    def until(app: App, metrics: Recording) -> None:
        start = app.output.count
        _wait(lambda: app.output.count >= start + frames, 10 + frames / args.fps * 3, app)

    metrics = _run(_config(args), until)
    overhead = metrics.values["overhead"]
    return {
        "frames": len(overhead),
        "overhead p50 ms": percentile(overhead, 50),
        "overhead p90 ms": percentile(overhead, 90),
        "overhead p99 ms": percentile(overhead, 99),
        "overhead max ms": max(overhead),
        "worker p50 ms": percentile(metrics.values["frame"], 50),
    }


def loop(args: argparse.Namespace) -> Figures:
    """The whole loop with a model: frames per second, latency against the frame time; with --bare, turn by turn with
    its networks alone, which run in this process while the loop pauses."""
    bare = Bare(args) if args.bare else None
    rounds: list[Round] = []

    def until(app: App, metrics: Recording) -> None:
        # The standby's start takes a processor for some seconds; a show is long, so it is waited for.
        _wait(lambda: app.supervisor.standby_pid is not None, 120.0, app)
        count = ROUNDS if bare else 1
        for _ in range(count):
            metrics.values = {}
            began = time.monotonic()
            time.sleep(args.seconds / count)
            took, values = time.monotonic() - began, {name: list(kept) for name, kept in metrics.values.items()}
            rounds.append(Round(took, values, bare.beside(app) if bare else 0.0))

    try:
        _run(_config(args), until)
    finally:
        if bare:
            bare.close()
    frame, latency = ([value for each in rounds for value in each.values[name]] for name in ("frame", "latency"))
    fps = len(frame) / sum(each.took for each in rounds)
    more: Figures = {}
    if bare:
        more["bare networks ms"] = statistics.median(each.bare_ms for each in rounds)
        more["loop over networks %"] = 100 * statistics.median(each.over() for each in rounds)
        more["worker over networks %"] = 100 * statistics.median(each.worker_over() for each in rounds)
    return {
        "frames/s": fps,
        "worker p50 ms": percentile(frame, 50),
        "worker p99 ms": percentile(frame, 99),
        "latency p50 ms": percentile(latency, 50),
        "latency p99 ms": percentile(latency, 99),
        "latency p50 in frame times": percentile(latency, 50) * fps / 1000,
        **more,
    }


def kill(args: argparse.Namespace) -> Figures:
    """SIGKILL the painter at random moments: how long the output paused, how long until a fresh picture."""
    gaps: list[float] = []
    fresh: list[float] = []

    def until(app: App, metrics: Recording) -> None:
        arrivals, rng = Arrivals(app), random.Random(args.seed)  # noqa: S311 (moments, not secrets)
        for _ in range(args.kills):
            _wait(lambda: app.supervisor.standby_pid is not None and app.supervisor.active_pid is not None, 120.0, app)
            time.sleep(rng.uniform(0.3, 1.5))
            at = _kill(app, arrivals)
            fresh.append(arrivals.fresh_after_ms(at) or 0.0)
            gaps.append(arrivals.gap_ms(at))

    metrics = _run(_config(args), until)
    return {
        "kills": len(gaps),
        "longest pause of the output ms": max(gaps),
        "median pause ms": percentile(gaps, 50),
        "slowest fresh picture ms": max(fresh),
        "median fresh picture ms": percentile(fresh, 50),
        "restarts counted": metrics.get("worker.restarts"),
    }


def _kill(app: App, arrivals: Arrivals) -> int:
    """SIGKILL the painter; returns when, after a picture that is younger than that."""
    victim = app.supervisor.active_pid
    if victim is None:
        raise LiveLatentError("nobody paints")
    at = now_ns()
    os.kill(victim, signal.SIGKILL)
    _wait(lambda: arrivals.fresh_after_ms(at) is not None and now_ns() - at > 300 * MS, 30.0, app)
    return at
