"""How long one frame takes from a process to another: shared memory, ZMQ over ipc and TCP, raw and JPEG, NDI; beside
memcpy, and beside what older routes do (base64 of a PNG in JSON over HTTP).

One-way times, capture stamp in the sender to pixels in the receiver's hands, paced at 60 frames a second like a real
source: so they contain the receiver's wake-up, which at 512x512 is most of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import create_server

import numpy as np

from bridge.bench_http import HttpSink, HttpSource
from bridge.clock import NS, now_ns
from bridge.config import Config, LanConfig
from bridge.context import Context
from bridge.drivers import Sink, Source, make_sink, make_source
from bridge.errors import WorkerError
from bridge.frame import Frame, Pixels, Stamps
from bridge.transports import why_not

SIZES = ((512, 512), (1080, 1920))
FPS = 60.0
WARM_S = 1.0
CONNECT_S = 30.0
MEMCPY = "memcpy in process"
LEAST = 3
"""Frames of the slowest path, which takes more than a second for each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One path at one size; times in microseconds."""

    path: str
    size: str
    p50: float
    p99: float
    frames: int
    sent: int
    rate: float
    """Frames that arrived per second, of 60 that the sender would offer; of a copy in memory, how many would go."""


def run(frames: int = 180) -> list[Row]:
    """All paths at all sizes, about `frames` / 60 seconds each. Raises WorkerError when a sender does not come up."""
    rows = []
    for height, width in SIZES:
        rows.append(_memcpy(_picture(height, width), frames))
        for path, source, sink in _paths():
            rows.append(_hop(path, source, sink, (height, width), frames))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| path | size | p50 µs | p99 µs | of memcpy | frames/s | arrived |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r.path} | {r.size} | {r.p50:.0f} | {r.p99:.0f} | {times:.0f} × | {r.rate:.0f} | {r.frames}/{r.sent} |"
        for r, times in zip(rows, ratios(rows), strict=True)
    ]
    return "\n".join(lines)


def figures() -> dict[str, str]:
    """For the terminal: a line for each row."""
    rows = run()
    return {
        f"{r.path} {r.size}, p50 / p99 µs": f"{r.p50:.0f} / {r.p99:.0f}, {times:.0f} × memcpy, {r.rate:.0f} frames/s"
        for r, times in zip(rows, ratios(rows), strict=True)
    }


def ratios(rows: list[Row]) -> list[float]:
    """How many times as long as the copy in memory of its size each path takes; that does not depend on the machine so
    much as the times themselves."""
    copies = {row.size: row.p50 for row in rows if row.path == MEMCPY}
    return [row.p50 / copies[row.size] for row in rows]


def _paths() -> Iterator[tuple[str, str, str]]:
    """Name, source and sink of every path; addresses that nobody else has."""
    name = f"llbench-{os.getpid()}"
    yield "shm ring", f"shm?name={name}", f"shm?name={name}"
    if os.name == "posix":
        ipc = f"zmq:ipc://{tempfile.gettempdir()}/{name}"
        yield "zmq ipc raw", ipc, f"{ipc}?bind=0"
    with create_server(("127.0.0.1", 0)) as probe:
        tcp = f"zmq:tcp://127.0.0.1:{probe.getsockname()[1]}"
    yield "zmq tcp raw", tcp, f"{tcp}?bind=0"
    yield "zmq tcp JPEG 85", tcp, f"{tcp}?bind=0&codec=jpeg"
    if not why_not("ndi"):
        yield "NDI", f"ndi:{name}", f"ndi:{name}"
    with create_server(("127.0.0.1", 0)) as probe:
        http = f"http:{probe.getsockname()[1]}"
    yield "HTTP, JSON, base64 PNG", http, http


def _source(text: str) -> Source:
    return HttpSource(int(text[5:])) if text.startswith("http:") else make_source(text, Context())


def _sink(text: str) -> Sink:
    # NDI's sender reaches beyond this machine, if anybody there wants to see the pattern.
    open_ = Context(Config(lan=LanConfig(enabled=True, allow=("127.0.0.0/8",))))
    return HttpSink(int(text[5:])) if text.startswith("http:") else make_sink(text, open_)


def _picture(height: int, width: int) -> Pixels:
    """Smooth shapes with a little noise: JPEG finds it neither empty nor incompressible. uint8 (height, width, 4)."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 8, (height, width, 4))
    waves = np.stack([np.sin(x / (20 + 9 * c)) * np.cos(y / (30 + 5 * c)) for c in range(4)], axis=2)
    return (128 + 110 * waves + noise).clip(0, 255).astype(np.uint8)


def _memcpy(pixels: Pixels, frames: int) -> Row:
    target = np.empty_like(pixels)
    times = []
    for _ in range(frames):
        began = now_ns()
        np.copyto(target, pixels)
        times.append(now_ns() - began)
    return _row(MEMCPY, pixels.shape[:2], times, frames, sum(times) / frames)


def _hop(path: str, source_text: str, sink_text: str, size: tuple[int, ...], frames: int) -> Row:
    source = _source(source_text)
    source.open()
    command = [sys.executable, "-m", "bridge.bench_transport", sink_text, *map(str, (*size, frames))]
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environ = {**os.environ, "PYTHONPATH": paths}
    sender = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    times: list[int] = []
    first = last = 0
    try:
        deadline = now_ns() + int((40 + CONNECT_S + 4 * frames / FPS) * NS)
        while now_ns() < deadline:
            frame = source.read(0.1)
            if frame is not None and frame.media_ns >= 0:
                last = now_ns()
                first = first or last
                times.append(last - frame.stamps.captured)
            elif frame is None and sender.poll() is not None:
                break
    finally:
        sender.kill()
        said, _ = sender.communicate()
        source.close()
    if not times:
        raise WorkerError(f"the sender of {path} sent nothing")
    return _row(path, size, times, int(said or len(times)), (last - first) / max(1, len(times) - 1))


def _row(path: str, size: tuple[int, ...], times: list[int], sent: int, every_ns: float) -> Row:
    p50, p99 = np.percentile(times, [50, 99]) / 1000
    name = f"{size[1]}x{size[0]} rgba8"
    return Row(path, name, float(p50), float(p99), len(times), sent, NS / every_ns if every_ns else 0.0)


def _send(sink_text: str, height: int, width: int, frames: int) -> None:
    """The other process. What it sends in the first second or more, unmarked, brings the connection up; then `frames`
    marked ones, or as many as go into four times the time that they should take. Prints how many those were."""
    sink = _sink(sink_text)
    sink.open()
    pixels = _picture(height, width)
    sent, began = -1, time.perf_counter()
    due, warm = began, began + WARM_S
    while sent < frames and (sent < LEAST or time.perf_counter() < warm + 4 * frames / FPS):
        due = max(due + 1 / FPS, time.perf_counter() - 1 / FPS)
        time.sleep(max(0.0, due - time.perf_counter()))
        now = time.perf_counter()
        if sent < 0 and ", 0 receivers" in sink.describe() and now < began + CONNECT_S:
            warm = max(warm, now + WARM_S / 2)  # NDI looks for its senders first, and sends to nobody
        elif sent < 0 and now > warm:
            sent = 0
        sink.write(Frame(pixels, max(0, sent), Stamps(now_ns()), media_ns=sent))
        sent += sent >= 0
    print(sent, flush=True)
    time.sleep(0.2)
    sink.close()


if __name__ == "__main__":
    if len(sys.argv) == 5:
        _send(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        print(table(run()))
