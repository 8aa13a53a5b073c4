"""`livelatent looks`: what there is to recall."""

from __future__ import annotations

import argparse

from bridge.errors import LiveLatentError
from bridge.load_config import looks
from bridge.show.looks import Library
from engines import paths


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list",), default="list", help="list: every look")


def main(args: argparse.Namespace) -> int:
    """0 if all of them can be read, else 1."""
    library, wrong = Library(), 0
    for name, path in sorted(looks().items()):
        whose = "yours" if path.is_relative_to(paths.home()) else "ours"
        try:
            look = library.get(name)
            says = f"{len(look.values)} parameters" + f", {len(look.schedules)} schedules" * bool(look.schedules)
        except LiveLatentError as error:
            says, wrong = str(error), 1
        print(f"{name:24}{whose:8}{says}")
    print(f"\nYour own are in {paths.home() / 'looks'}; /ll/look/save NAME keeps the running state there.")
    return wrong
