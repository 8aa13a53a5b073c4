"""`livelatent layouts`: control surfaces made from the parameter table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from bridge.config import OscConfig
from bridge.errors import ConfigError
from bridge.layouts import stagecontrol, tosc, touchosc
from bridge.layouts.pages import Page, pages
from bridge.load_config import looks
from bridge.show import cues
from bridge.tox.pages import shipped
from bridge.web.catalogue import known
from engines import paths

TOUCHOSC, STAGE_CONTROL = "livelatent.tosc", "livelatent.json"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where to; here without it")
    parser.add_argument("--prefix", default=OscConfig().prefix, help="of all addresses, as in your config's osc.prefix")
    parser.add_argument(
        "--listen-port", type=int, default=touchosc.LISTEN_PORT, metavar="PORT", help="where TouchOSC receives"
    )
    parser.add_argument(
        "--shipped", action="store_true", help="leave out your own looks, cue lists and models, which get buttons else"
    )


def main(args: argparse.Namespace) -> int:
    """Write both layouts. Raises ConfigError where that is not possible."""
    if not 1 <= args.listen_port < 65536:
        raise ConfigError("--listen-port takes 1 to 65535")
    made = everything(args.prefix) if not args.shipped else everything_shipped(args.prefix)
    files = {
        TOUCHOSC: tosc.pack(touchosc.layout(made, args.prefix, args.listen_port)),
        STAGE_CONTROL: stagecontrol.as_json(made, args.prefix).encode(),
    }
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (args.folder / name).write_bytes(content)
    except OSError as error:
        raise ConfigError(f"the layouts can't be written to {args.folder}: {error.strerror}") from error
    port = OscConfig().port
    print(f"{args.folder / TOUCHOSC}: for TouchOSC; let it send to port {port} and receive at {args.listen_port}")
    print(f"{args.folder / STAGE_CONTROL}: open-stage-control --send 127.0.0.1:{port} --load {STAGE_CONTROL}")
    print("docs/controllers.md tells how to connect them, on this machine and over the network.")
    return 0


def everything(prefix: str) -> tuple[Page, ...]:
    """With what the user has: looks and cue lists of their own first, and all models by name."""
    return pages(prefix, known, _own_first(looks()), _own_first(cues.files()))


def everything_shipped(prefix: str) -> tuple[Page, ...]:
    """The same on every machine."""
    ours = paths.data("configs")
    names = (sorted(path.stem for path in (ours / kind).glob("*.toml")) for kind in ("looks", "shows"))
    return pages(prefix, shipped, *names)


def _own_first(files: Mapping[str, Path]) -> list[str]:
    return sorted(files, key=lambda name: (not files[name].is_relative_to(paths.home()), name))
