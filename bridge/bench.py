"""`livelatent bench`: what this machine does, measured on the real program.

Every figure comes out of one run of the ordinary loop with ordinary drivers; nothing is bypassed. Absolute times depend
on the machine and its other load, so what is compared is compared within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path

from bridge import bench_engines, bench_gpu, bench_loop
from bridge.bench_loop import Figures, bridge, kill, settings
from pipelines.params import Params

Table = dict[str, dict[str, float]]
"""Several things measured alike: rows by name, then columns."""


def loop(args: argparse.Namespace) -> Figures | Table:
    """The whole loop with a model: frames per second, and latency against the frame time; with --engine both, of either
    engine, in turns of a third of the seconds."""
    return bench_engines.loops(args, bench_loop.loop) if args.engine == "both" else bench_loop.loop(args)


def step(args: argparse.Namespace) -> Table:
    """`step()` against the bare calls of its networks, interleaved, in this process; with --engine both, of either
    engine, turn by turn."""
    return bench_engines.step(args)


def cpu(args: argparse.Namespace) -> Table:
    """pocket on this processor by either engine, whole loop and step(), at 256 and 512 pixels, against the floors that
    we set for two cores. Some five minutes, on a quiet machine."""
    return bench_engines.cpu(args, bench_loop.loop)


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
    return run(args, {**settings(args), **values})


def display(args: argparse.Namespace) -> Table:
    """The last picture moved on (display_rate) and held, against the pictures that would have been painted."""
    from bridge.bench_display import run

    return run(args, {**settings(args), "model": args.model, "width": args.size, "height": args.size})


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
    parser.add_argument("--drawn", action="store_true", help="for loop: the scene is drawn beforehand, not meanwhile")
    parser.add_argument("--bare", action="store_true", help="for loop: the networks alone, too, turn by turn")
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
