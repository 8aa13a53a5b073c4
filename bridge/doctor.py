"""`livelatent doctor`: what this machine has, what is missing, and how to mend it, a line each. Never imports torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

import msgspec

from bridge import checkengine, checktorch, checkup
from bridge.checkup import Check
from bridge.load_config import load_config, read_file

MARKS = {"ok": "✓", "bad": "✗", "note": "·"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="check what this file asks for")
    parser.add_argument("--json", action="store_true", help="the same for programs")


def main(args: argparse.Namespace) -> int:
    """Print every check; 0 when nothing keeps livelatent from running, else 1."""
    config = load_config(read_file(name) for name in args.config)
    facts = checktorch.probe()
    checks = [checkup.python(), *checktorch.checks(facts, config.worker.device)]
    checks += [checkengine.engine(config, checktorch.graphics(facts), checktorch.card(facts)), *checkup.ports(config)]
    checks += [
        checkup.shared_memory(),
        *checkup.models(config),
        *checkup.drivers(),
        checkup.cameras(),
        checkup.midi(),
        checkup.link(),
        *checkup.files(),
    ]
    healthy = all(check.status != "bad" for check in checks)
    if args.json:
        print(json.dumps({"ok": healthy, "checks": msgspec.to_builtins(checks)}))
    else:
        print("\n".join(lines(checks)))
    return 0 if healthy else 1


def lines(checks: Iterable[Check]) -> list[str]:
    """As people read them: mark, name, what is there, and what to do about it."""
    return [f"{MARKS[c.status]} {c.name:<15} {c.text}{f' → {c.fix}' if c.fix else ''}" for c in checks]
