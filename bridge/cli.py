"""The `livelatent` command. A sub-command's module is imported when it is called, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from bridge.errors import LiveLatentError
from bridge.version import __version__
from engines.errors import ModelError

EXIT_BAD = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "run": ("bridge.run_cli", "frames in, diffused frames out, until Ctrl-C (what you get without a command)"),
    "models": ("bridge.models_cli", "list, pull, add and check models"),
    "sources": ("bridge.sources_cli", "who sends frames around here, and the ways to hand them on"),
    "params": ("bridge.reference", "print every parameter with its OSC address, range and meaning"),
    "replay": ("bridge.replay_cli", "paint a recording's input again, and see whether the pictures are the same"),
    "infotext": ("bridge.infotext_cli", "turn AUTOMATIC1111's settings, in a picture or a text, into a look"),
    "looks": ("bridge.show.looks_cli", "the looks that there are, ours and those that you saved"),
    "shows": ("bridge.show.shows_cli", "the cue lists that there are; check one"),
    "layouts": ("bridge.layouts.cli", "control surfaces for TouchOSC and Open Stage Control, with every parameter"),
    "midi": ("bridge.midi.cli", "what is plugged in, what a controller says, and what is bound to what"),
    "keys": ("bridge.keys", "who may connect over ZMQ from other machines"),
    "td": ("bridge.tox.cli", "the TouchDesigner component: build it, install it"),
    "doctor": ("bridge.doctor", "check this machine, and say how to fix what is missing"),
    "bench": ("bridge.bench", "measure the bridge, the model and the whole loop"),
}
"""Name → module and help. A module has `configure(parser)` and `main(args) -> int`."""

Main = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """argparse that says what you may have meant."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD, f"{self.prog}: {message}{self._meant(message)} (see `{self.prog} --help`)\n")

    def _meant(self, message: str) -> str:
        if message.startswith("unrecognized arguments: -"):
            word, known = message.split()[2].partition("=")[0], self._options()
        elif "invalid choice: '" in message:
            word, known = message.split("invalid choice: '")[1].split("'")[0], list(COMMANDS)
        else:
            return ""
        found = difflib.get_close_matches(word, known, n=1)
        return f"; did you mean {found[0]}?" if found else ""

    def _options(self) -> list[str]:
        """Our options and those of every sub-command: argparse reports an unknown one from the top."""
        out = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action.choices, dict):
                out += [option for sub in action.choices.values() for option in sub._options()]
        return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 found something wrong, 2 asked wrongly."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a Windows console may lack a sign; that must not end the show
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words = ["run", *words]
    debug = "--debug" in words or bool(os.environ.get("LIVELATENT_DEBUG"))
    try:
        args = _parser(words).parse_args(words)
        return _call(args)
    except (LiveLatentError, ModelError) as error:
        if debug:
            raise
        print(f"livelatent: {error}", file=sys.stderr)
        return EXIT_BAD
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `livelatent params | head`: the reader has gone, and Python must not complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(words: Sequence[str]) -> Parser:
    """The whole command line; only the command that is called gets its options, as they take an import each."""
    parser = Parser(
        prog="livelatent",
        description="Frames in, few-step diffusion, frames out, steered live over OSC.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"livelatent {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, title="commands")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        if name == words[0]:
            importlib.import_module(module).configure(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error, and log everything")
    return parser


def _call(args: argparse.Namespace) -> int:
    level = "DEBUG" if args.debug else getattr(args, "log_level", "INFO")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    run: Main = importlib.import_module(COMMANDS[args.command][0]).main
    return run(args)
