"""`livelatent shows`: the cue lists, and whether they and all their looks can be read."""

from __future__ import annotations

import argparse

from bridge.errors import LiveLatentError
from bridge.show import cues
from bridge.show.looks import Library
from engines import paths


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list",), default="list", help="list: every cue list")


def main(args: argparse.Namespace) -> int:
    """0 if all of them can be played, else 1."""
    library, wrong = Library(), 0
    for name, path in sorted(cues.files().items()):
        whose = "yours" if path.is_relative_to(paths.home()) else "ours"
        try:
            show = cues.read_show(path)
            for cue in show.cue:
                if cue.look:
                    library.get(cue.look)
            says = f"{len(show.cue)} cues. {show.title}".strip()
        except LiveLatentError as error:
            says, wrong = str(error), 1
        print(f"{name:24}{whose:8}{says}")
    print(f"\nYour own are in {paths.home() / 'shows'}; docs/show.md tells how they are written.")
    return wrong
