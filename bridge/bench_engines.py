"""The engines side by side in one run, turn by turn: what the machine does besides then falls on all of them alike."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence

from msgspec import convert

from engines.openvino_device import installed
from pipelines.params import Params
from pipelines.spec import Engine, StreamSpec, structural

Table = dict[str, dict[str, float]]
Run = Callable[[argparse.Namespace], Mapping[str, float | str]]
TURNS = 3
FLOORS = {256: 40.0, 512: 10.0}
"""Frames per second of the whole loop that pocket is to reach on two cores, by size."""
STEP = {
    "networks": "bare networks ms",
    "step": "step() ms",
    "frame": "whole call ms",
    "overhead": "over networks %",
    "processor": "in processor time %",
}


def loops(args: argparse.Namespace, run: Run) -> Table:
    """Medians of `run`'s figures, for each engine, of turns that take a third of the seconds each."""
    found: dict[str, list[Mapping[str, float | str]]] = {}
    for name in engines(args) * TURNS:
        turn = {**vars(args), "engine": name, "seconds": args.seconds / TURNS}
        found.setdefault(name, []).append(run(argparse.Namespace(**turn)))
    return {name: _medians(turns) for name, turns in found.items()}


def step(args: argparse.Namespace) -> Table:
    """`step()` over its networks, for each engine."""
    from pipelines.bench_step import bench_step
    from pipelines.build import build
    from pipelines.stream import DiffusionStream

    params = Params(model=args.model, width=args.size, height=args.size)
    streams: dict[str, DiffusionStream] = {}
    found: dict[str, list[dict[str, float]]] = {}
    try:
        for name in engines(args):
            spec = StreamSpec(engine=convert(name, Engine), dtype=args.dtype)
            stream = build(structural(spec, params), params)
            assert isinstance(stream, DiffusionStream), "step() is measured over networks"
            streams[name] = stream
        for name in list(streams) * TURNS:
            found.setdefault(name, []).append(bench_step(streams[name], params, max(1, args.frames // TURNS)))
    finally:
        for stream in streams.values():
            stream.close()
    table = {name: _medians(turns) for name, turns in found.items()}
    for figures in table.values():
        figures["overhead"] *= 100
        figures["processor"] *= 100
    return {name: {title: figures[key] for key, title in STEP.items()} for name, figures in table.items()}


def cpu(args: argparse.Namespace, run: Run) -> Table:
    """Both of the above at both sizes, with the floors."""
    table: Table = {}
    for size, floor in FLOORS.items():
        sized = argparse.Namespace(**{**vars(args), "size": size, "engine": "both", "model": "pocket"})
        whole, parts = loops(sized, run), step(sized)
        table |= {f"{name} {size}": {**whole[name], **parts[name], "floor frames/s": floor} for name in whole}
    return table


def engines(args: argparse.Namespace) -> list[str]:
    """What `both` means here, or the one that was asked for."""
    if args.engine != "both":
        return [args.engine]
    return ["eager", "openvino"] if installed() else ["eager"]


def _medians(turns: Sequence[Mapping[str, float | str]]) -> dict[str, float]:
    return {key: statistics.median(float(turn[key]) for turn in turns) for key in turns[0]}
