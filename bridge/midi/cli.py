"""`livelatent midi`: the ports, the files of bindings, and what a controller says when it is moved."""

from __future__ import annotations

import argparse
import queue
from typing import Any

from bridge.clock import now_ns
from bridge.errors import LiveLatentError
from bridge.metrics import Metrics
from bridge.midi import bindings
from bridge.midi.events import Event, Gather
from bridge.midi.ports import Backend, Ports, backend, inputs
from engines import paths

ACTIONS = {
    "ports": "what is plugged in (what you get without a word)",
    "listen": "print what controllers say, as it is written in a file of bindings, until Ctrl-C",
    "files": "the files of bindings, and whether they can be read",
}
WAIT_S = 0.02


def configure(parser: argparse.ArgumentParser) -> None:
    text = "; ".join(f"{name}: {doc}" for name, doc in ACTIONS.items())
    parser.add_argument("action", nargs="?", choices=tuple(ACTIONS), default="ports", help=text)


def main(args: argparse.Namespace) -> int:
    """0 when all is well, else 1. Raises DriverMissing, DriverError where there is no MIDI."""
    if args.action == "files":
        return _files()
    system = backend()
    if args.action == "ports":
        print("\n".join(ports(system)))
        return 0
    listen(system)
    return 0


def ports(system: Backend) -> list[str]:
    """A line each."""
    out = system.get_output_names()
    lines = [f"{name:40}{'in' if name not in out else 'in, out'}" for name in inputs(system)]
    return lines or ["nothing is plugged in"]


def listen(system: Backend, stop_after: int = 0) -> None:
    """Print every event of every port, for ever or until there were so many."""
    heard: queue.Queue[tuple[str, Any, int]] = queue.Queue(4096)
    gathers: dict[str, Gather] = {}
    count = 0

    def put(port: str, message: Any, at_ns: int) -> None:
        if not heard.full():
            heard.put_nowait((port, message, at_ns))

    device = Ports(lambda: system, (), False, put, Metrics())
    device.start()
    try:
        while not stop_after or count < stop_after:
            events: list[tuple[str, Event]] = []
            try:
                port, message, at_ns = heard.get(timeout=WAIT_S)
                events += [(port, event) for event in gathers.setdefault(port, Gather()).take(message, at_ns)]
            except queue.Empty:
                pass
            events += [(port, event) for port, gather in gathers.items() for event in gather.flush(now_ns())]
            for port, event in events:
                count += 1
                print(f'port = "{port}"  on = "{event.control}"  {event.value:.4f}', flush=True)
    finally:
        device.stop()


def _files() -> int:
    wrong = 0
    for name, path in sorted(bindings.files().items()):
        whose = "yours" if path.is_relative_to(paths.home()) else "ours"
        try:
            found = bindings.read_map(path)
            says = f"{len(found.bind)} bindings. {found.title}".strip()
        except LiveLatentError as error:
            says, wrong = str(error), 1
        print(f"{name:24}{whose:8}{says}")
    print(f"\nYour own are in {paths.home() / 'midi'}; docs/show.md tells how they are written.")
    return wrong
