"""`livelatent sources`: who sends frames around here, and the ways to hand them on, best first."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from typing import Any

from bridge.checkup import cameras
from bridge.errors import DriverError
from bridge.transports import ranked, why_not

LOOK_S = 2.0
"""What NDI's senders need to be heard of."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sources`."""
    parser.add_argument("--ip", action="append", default=[], metavar="ADDRESS", help="ask this machine for NDI senders")
    parser.add_argument("--remote", action="store_true", help="rank the ways to another machine")
    parser.add_argument("--json", action="store_true", help="the same for programs")


def main(args: argparse.Namespace) -> int:
    """Print what is found; 0, also when that is nothing."""
    found: dict[str, Any] = {name: senders(name, args.ip) for name in ("ndi", "spout", "syphon")}
    transports = ranked(args.remote)
    if args.json:
        print(json.dumps({"senders": found, "transports": [row._asdict() for row in transports]}))
        return 0
    print(f"cameras  {cameras().text}")
    for name, what in found.items():
        lines = what if isinstance(what, list) else [what]
        print(*(f"{name:<8} {line}" for line in lines or ["none"]), sep="\n")
    print(f"\nTo {'another machine' if args.remote else 'a program on this machine'}, best first:")
    for row in transports:
        print(f"{row.name:<8} {row.missing or row.cost}")
    return 0


def senders(name: str, ips: list[str]) -> list[str] | str:
    """What can stand behind `ndi:`, `spout:` or `syphon:`; a sentence where that can't be known."""
    missing = why_not(name)
    if missing:
        return missing
    try:
        return {"ndi": lambda: _ndi(ips), "spout": _spout, "syphon": _syphon}[name]()
    except DriverError as error:
        return str(error)


def _ndi(ips: list[str]) -> list[str]:
    from bridge import ndi

    finder = ndi.library().finder(ips)
    try:
        end = time.monotonic() + LOOK_S
        while (left := end - time.monotonic()) > 0:
            found = finder.senders(left)
        return [sender.name for sender in found]
    finally:
        finder.close()


def _spout() -> list[str]:
    names: list[str] = importlib.import_module("bridge.sources.spout").senders()
    return names


def _syphon() -> list[str]:
    names: list[str] = importlib.import_module("bridge.sources.syphon").servers()
    return names
