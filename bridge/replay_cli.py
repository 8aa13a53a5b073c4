"""`livelatent replay`: a recording's input painted again, to check it or to render it anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError
from bridge.load_config import parse_value
from bridge.record import places
from bridge.record.places import FORMATS
from bridge.record.reel import open_reel
from bridge.record.replay import Outcome, Replay
from bridge.record.tape import Tape
from pipelines.params import table

SHOWN = 12
"""So many runs of pictures that differ are told of."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `replay`."""
    add = parser.add_argument
    add("folder", help="a recording with its input; a bare name is looked for among yours")
    add("--into", metavar="FOLDER", help="write the pictures into this new folder, too")
    add("--format", choices=FORMATS, default="mkv", help="mkv (lossless, unless you say otherwise), mp4 or png")
    add(
        "--engine",
        choices=("eager", "compiled", "openvino", "tensorrt"),
        help="paint with this one, and not with the one that was recorded",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter to paint with instead: steps=4, model=sd-turbo, width=512; again for more",
    )


def main(args: argparse.Namespace) -> int:
    """0 if every picture is the recorded one bit for bit, or if `--set` asked for others; 1 if not."""
    changes = dict(map(_change, args.set))
    tape = Tape(_find(args.folder))
    if not tape.header.input:
        raise ConfigError(
            f"{tape.folder.name} has no input to paint again: record with /ll/record/start NAME mkv input"
        )
    reel = None
    if args.into:
        into = Path(args.into).expanduser()
        try:
            into.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"--into {into}: {error.strerror or error}") from error
        reel = open_reel(into, "picture", args.format)
    run = Replay(tape, args.engine, changes, reel)
    try:
        outcomes = list(_counted(run))
    finally:
        if reel is not None:
            reel.close()
    return _report(tape, run, outcomes, bool(changes))


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    yours = places.under("", "recordings") / name
    return yours if not path.exists() and path.parent == Path() and yours.is_dir() else path


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: takes NAME=VALUE, such as --set steps=4")
    name = name.strip()
    parsed = parse_value(name, value)
    try:
        return name, table()[name].coerce(parsed)
    except ValueError as error:
        raise ConfigError(f"--set {text!r}: {error}") from error


def _counted(outcomes: Iterable[Outcome]) -> Iterable[Outcome]:
    """With a count for people who wait."""
    waited = sys.stderr.isatty()
    for outcome in outcomes:
        if waited:
            print(f"\rpicture {outcome.n}", end="", file=sys.stderr, flush=True)
        yield outcome
    if waited:
        print("\r" + " " * 24 + "\r", end="", file=sys.stderr)


def _report(tape: Tape, run: Replay, outcomes: list[Outcome], changed: bool) -> int:
    same, painted = sum(o.same is True for o in outcomes), sum(o.same is not None for o in outcomes)
    if changed:
        print(f"{painted} of {len(outcomes)} pictures painted with {run.engine}")
    else:
        print(f"{same} of {len(outcomes)} pictures are bit-equal, painted with {run.engine}")
        runs = [list(group) for wrong, group in groupby(outcomes, lambda o: (o.same, o.doubt)) if not wrong[0]]
        for group in runs[:SHOWN]:
            print(f"  {_span(group)}: {_verdict(group[0])}")
        if len(runs) > SHOWN:
            print(f"  and {len(runs) - SHOWN} more such runs")
    for note in _notes(tape):
        print(note)
    return 0 if outcomes and (changed or same == len(outcomes)) else 1


def _span(group: list[Outcome]) -> str:
    return f"picture {group[0].n}" if len(group) == 1 else f"pictures {group[0].n} to {group[-1].n}"


def _verdict(outcome: Outcome) -> str:
    if outcome.same is None:
        return f"not painted, {outcome.doubt}"
    return f"other than recorded: {outcome.doubt}" if outcome.doubt else "other than recorded, and nothing says why"


def _notes(tape: Tape) -> list[str]:
    """What of the recording could not be used, and where the machine is another than the one that it was made with."""
    notes = []
    if tape.lines.broken:
        notes.append(f"{tape.lines.broken} lines could not be read")
    if tape.lines.unknown:
        notes.append(f"this version does not know {', '.join(sorted(tape.lines.unknown))}")
    here = places.made_with()
    for name, there in tape.header.made_with.items():
        if here.get(name) != there:
            notes.append(f"recorded with {name} {there}, replayed with {here.get(name, 'none')}")
    return notes
