"""`livelatent bench`: what this machine does, measured on the real program.

Every figure comes out of one run of the ordinary loop with ordinary drivers; nothing is bypassed. Absolute times depend
on the machine and its other load, so what is compared is compared within one run.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import os
import platform
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from bridge import bench_engines, bench_gpu
from bridge.app import SWITCH_S, App
from bridge.clock import MS, now_ns
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.context import Context
from bridge.errors import LiveLatentError
from bridge.frame import Frame
from bridge.load_config import parse_value
from bridge.metrics import Metrics
from pipelines.params import Params

Figures = dict[str, float | str]
Table = dict[str, dict[str, float]]
"""Several things measured alike: rows by name, then columns."""


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


def _settings(args: argparse.Namespace) -> dict[str, Any]:
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
            **({} if fake else {"model": args.model, **_settings(args)}),
        },
        "worker": WorkerConfig(
            engine="fake" if fake else args.engine, fake={"ms": 8.0} if fake else {}, dtype=args.dtype
        ),
        "web": WebConfig(enabled=False),
        "osc": OscConfig(port=0),
        "source": f"scene?size={args.size}x{args.size}&fps={args.fps}&pixels=rgba",
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


def loop(args: argparse.Namespace) -> Figures | Table:
    """The whole loop with a model: frames per second, and latency against the frame time; with --engine both, of either
    engine, in turns of a third of the seconds."""
    return bench_engines.loops(args, _loop) if args.engine == "both" else _loop(args)


def _loop(args: argparse.Namespace) -> Figures:
    seconds = args.seconds
    took: list[float] = []

    def until(app: App, metrics: Recording) -> None:
        # The standby's start takes a processor for some seconds; a show is long, so it is waited for.
        _wait(lambda: app.supervisor.standby_pid is not None, 120.0, app)
        metrics.values.clear()
        began = time.monotonic()
        time.sleep(seconds)
        took.append(time.monotonic() - began)

    metrics = _run(_config(args), until)
    frame, latency = metrics.values["frame"], metrics.values["latency"]
    fps = len(frame) / took[0]
    return {
        "frames/s": fps,
        "worker p50 ms": percentile(frame, 50),
        "worker p99 ms": percentile(frame, 99),
        "latency p50 ms": percentile(latency, 50),
        "latency p99 ms": percentile(latency, 99),
        "latency p50 in frame times": percentile(latency, 50) * fps / 1000,
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


def step(args: argparse.Namespace) -> Table:
    """`step()` against the bare calls of its networks, interleaved, in this process; with --engine both, of either
    engine, turn by turn."""
    return bench_engines.step(args)


def cpu(args: argparse.Namespace) -> Table:
    """pocket on this processor by either engine, whole loop and step(), at 256 and 512 pixels, against the floors that
    we set for two cores. Some five minutes, on a quiet machine."""
    return bench_engines.cpu(args, _loop)


def gpu(args: argparse.Namespace) -> Table:
    """Real architectures with random weights on this NVIDIA card, whole loop through the rings and stage by stage,
    within a budget of seconds, the most important first."""
    return bench_gpu.run(args)


def transport(args: argparse.Namespace) -> Figures:
    """One-way times of the transports, process to process, against a copy of the frame in memory."""
    from bridge.bench_transport import figures

    return dict(figures())


def coherence(args: argparse.Namespace) -> Table:
    """Looks side by side on a moving clip: how steady, sharp, true to their colours, and fast."""
    from bridge.bench_coherence import run

    values = {"model": args.model, "width": args.size, "height": args.size}
    return run(args, {**_settings(args), **values})


def display(args: argparse.Namespace) -> Table:
    """The last picture moved on (display_rate) and held, against the pictures that would have been painted."""
    from bridge.bench_display import run

    return run(args, {**_settings(args), "model": args.model, "width": args.size, "height": args.size})


MEASURES: dict[str, Callable[[argparse.Namespace], Figures | Table]] = {
    "coherence": coherence,
    "display": display,
    "bridge": bridge,
    "cpu": cpu,
    "gpu": gpu,
    "loop": loop,
    "kill": kill,
    "step": step,
    "transport": transport,
}
FRAMES = {"step": 200, "coherence": 60, "cpu": 60, "gpu": 300, "display": 240}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bench`."""
    defaults = Params()
    what = "; ".join(f"{name}: {measure.__doc__}" for name, measure in MEASURES.items())
    parser.add_argument("what", choices=sorted(MEASURES), help=what)
    parser.add_argument(
        "--frames", type=int, default=0, metavar="N", help="2000 for bridge, 200 for step, 60 for coherence"
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    parser.add_argument("--size", type=int, default=0, help="pixels a side; 512 for bridge, else the model's 256")
    parser.add_argument("--fps", type=int, default=60, help="of the source")
    parser.add_argument("--model", default=defaults.model)
    parser.add_argument(
        "--engine",
        choices=("auto", "both", "eager", "compiled", "openvino", "fake"),
        default="",
        help="eager if not given, for step and loop both of eager and openvino; fake for kill; bridge is always fake",
    )
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any parameter but size and model; for loop, and under every look of coherence",
    )
    parser.add_argument(
        "--source", metavar="SPEC", help="clip for coherence, such as movie:FILE; the scene if not given"
    )
    parser.add_argument(
        "--look",
        action="append",
        default=[],
        metavar="NAME",
        help="for coherence: plain, a look that we ship, or a config file; again for more, all of ours if not given",
    )
    parser.add_argument("--display", type=int, default=60, metavar="HZ", help="for display: the display's rate")
    parser.add_argument("--painted", type=float, default=20.0, help="for display: painted pictures a second")
    parser.add_argument("--strip", type=Path, metavar="FILE", help="for coherence: write pictures side by side there")
    parser.add_argument("--budget", type=float, default=420.0, help="seconds for gpu")
    parser.add_argument("--rows", default="", metavar="TEXT", help="for gpu: only rows that have this in their name")
    parser.add_argument("--smoke", action="store_true", help="gpu on a processor, with tiny networks: does it work?")
    parser.add_argument("--streamdiffusion", metavar="FOLDER", help="for gpu: measure this copy of it in the same run")
    parser.add_argument("--table", type=Path, metavar="FILE", help="for gpu: write the table there, in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def main(args: argparse.Namespace) -> int:
    """Measure, print, and write where asked."""
    if args.what == "bridge":
        args.engine = "fake"
    args.engine = args.engine or ("both" if args.what in ("step", "loop") else "eager")
    args.size = args.size or (512 if args.what == "bridge" else Params().width)
    args.frames = args.frames or (20 if args.smoke else FRAMES.get(args.what, 2000))
    figures = MEASURES[args.what](args)
    for line in _lines(figures):
        print(line)
    if args.json and args.what != "gpu":  # which has written it, row by row
        where = {"date": date.today().isoformat(), "machine": platform.machine(), "cores": os.cpu_count() or 0}
        args.json.write_text(json.dumps({"bench": args.what, **where, "size": args.size, **figures}, indent=2) + "\n")
    return 0


def _lines(figures: Figures | Table) -> list[str]:
    """Name and value, or a table: its columns as wide as their heads."""
    width = max(map(len, figures), default=0)
    head = next((list(value) for value in figures.values() if isinstance(value, dict)), [])
    lines = ["  ".join([" " * width, *head])] if head else []
    for name, value in figures.items():
        if isinstance(value, dict):
            cells = (f"{number:>{max(4, len(column))}.4g}" for column, number in value.items())
            lines.append("  ".join([f"{name:<{width}}", *cells]))
        else:
            lines.append(f"{name:<{width}}  {value:.3f}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    return lines
