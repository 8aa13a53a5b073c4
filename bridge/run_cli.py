"""`livelatent run`: the command line's options as layers over the config files, then the loop."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from bridge.errors import ConfigError
from bridge.load_config import Layer, load_config, parse_value, read_file

Add = Callable[..., Any]
"""ArgumentParser.add_argument."""
FLAGS: dict[str, tuple[str, ...]] = {
    "--source": ("source",),
    "--image-source": ("image_source",),
    "--frames": ("frames",),
    "--look": ("look",),
    "--show": ("show",),
    "--engine": ("worker", "engine"),
    "--device": ("worker", "device"),
    "--dtype": ("worker", "dtype"),
    "--threads": ("worker", "threads"),
    "--osc-port": ("osc", "port"),
    "--web-port": ("web", "port"),
}
"""Options that carry one value of the Config."""
DEFAULT_MAP = "mine"
"""Bindings where `--midi` names none."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    for group in (_frames, _painting, _reach, _running):
        group(parser.add_argument)


def _frames(add: Add) -> None:
    """Where they come from and go."""
    add(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="a TOML file, or the bare name of one that we ship; again for more, the later wins",
    )
    add("--source", metavar="SPEC", help="where frames come from: scene, movie:FILE, camera:0, zmq:ADDRESS, ...")
    add(
        "--sink",
        action="append",
        metavar="SPEC",
        help="where they go: preview, zmq, shm, movie:FILE, null; again for more",
    )
    add("--look", metavar="NAME", help="a look of `livelatent looks` to begin with")
    add("--show", metavar="NAME", help="a cue list of `livelatent shows`; /ll/cue/go begins it")
    add(
        "--hint-sink",
        action="append",
        metavar="SPEC",
        help="where the hint goes that hint_preview names; again for more",
    )
    add(
        "--control-source",
        action="append",
        default=[],
        metavar="N=SPEC",
        help="a source of control unit N's own, such as 1=movie:depth.mp4; again for more",
    )
    add("--image-source", metavar="SPEC", help="a source of the image prompt's own, such as camera:1")


def _painting(add: Add) -> None:
    """What is painted, and with what."""
    add("--model", metavar="ID", help="a model of `livelatent models list`")
    add("--prompt", metavar="TEXT", help="what the picture becomes")
    add("--size", metavar="WxH", help="size of the painted picture, in multiples of 64")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any parameter of `livelatent params`; again for more",
    )
    add("--engine", help="auto, eager, compiled, openvino, tensorrt, or fake for a bridge without a model")
    add("--device", help="auto, cpu, cuda, mps or intel")
    add("--dtype", help="auto, fp32, bf16, fp16, fp16-accumulate, fp8 or int8 (docs/engines.md)")
    add("--threads", type=int, metavar="N", help="CPU threads of the worker; 0 leaves the choice to torch")


def _reach(add: Add) -> None:
    """Who may steer it, and how."""
    add("--osc-port", type=int, metavar="PORT", help="UDP port for OSC; 0 takes a free one")
    add("--web-port", type=int, metavar="PORT", help="port of the page; 0 takes a free one")
    add("--no-web", action="store_true", help="no page")
    add("--no-browser", action="store_true", help="print the page's address, open nothing")
    add("--lan", action="store_true", help="listen beyond this machine; needs --allow")
    add(
        "--allow",
        action="append",
        metavar="CIDR",
        help="a network that may send OSC, such as 192.168.1.0/24; again for more",
    )
    add(
        "--midi",
        nargs="?",
        const=DEFAULT_MAP,
        metavar="NAME",
        help=f"hear MIDI controllers, bound as in this file of `livelatent midi files` ({DEFAULT_MAP})",
    )
    add("--link", action="store_true", help="join Ableton Link on the local network, and take its tempo")


def _running(add: Add) -> None:
    add("--record", action="store_true", help="record from the first picture on: docs/recording.md")
    add("--every-frame", action="store_true", help="paint every frame of a movie, however long it takes")
    add("--frames", type=int, metavar="N", help="stop after N painted frames")
    add("--with-stdin", action="store_true", help="end when standard input does, for programs that start this one")
    add(
        "--log-level",
        default="INFO",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        metavar="LEVEL",
        help="DEBUG, INFO, WARNING or ERROR",
    )


def main(args: argparse.Namespace) -> int:
    """Load the configuration, and run until Ctrl-C, SIGTERM or the end of the source."""
    config = load_config(layers(args))
    from bridge.app import run

    return run(config, args.with_stdin)


def layers(args: argparse.Namespace) -> list[Layer]:
    """Config files in their order, then the flags. Raises ConfigError."""
    out = [read_file(name) for name in args.config]
    for flag, path in FLAGS.items():
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            out.append(Layer(flag, _nest(path, value)))
    if args.sink:
        out.append(Layer("--sink", {"sinks": args.sink}))
    if args.hint_sink:
        out.append(Layer("--hint-sink", {"hint_sinks": args.hint_sink}))
    if args.control_source:
        out.append(Layer("--control-source", {"control_sources": dict(map(_own, args.control_source))}))
    if args.every_frame:
        out.append(Layer("--every-frame", {"every_frame": True}))
    if args.record:
        out.append(Layer("--record", {"record": {"start": True}}))
    if args.no_web:
        out.append(Layer("--no-web", {"web": {"enabled": False}}))
    if args.no_browser:
        out.append(Layer("--no-browser", {"web": {"open_browser": False}}))
    if args.allow:
        out.append(Layer("--allow", {"lan": {"allow": args.allow}}))
    if args.midi:
        out.append(Layer("--midi", {"midi": {"map": args.midi}}))
    if args.link:
        out.append(Layer("--link", {"link": {"enabled": True}, "params": {"tempo_source": "link"}}))
    if args.lan:
        out.append(Layer("--lan", {"lan": {"enabled": True}}))
    return out + _params(args)


def _params(args: argparse.Namespace) -> list[Layer]:
    out = []
    if args.model is not None:
        out.append(Layer("--model", {"params": {"model": args.model}}))
    if args.prompt is not None:
        out.append(Layer("--prompt", {"params": {"prompt": args.prompt}}))
    if args.size is not None:
        out.append(Layer("--size", {"params": _size(args.size)}))
    for text in args.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: takes NAME=VALUE, such as --set strength=0.7")
        out.append(Layer("--set", {"params": {name.strip(): parse_value(name.strip(), value)}}))
    return out


def _own(text: str) -> tuple[str, str]:
    """`1=movie:clip.mp4` to unit and source."""
    number, equals, spec = text.partition("=")
    if not equals or not spec:
        raise ConfigError(f"--control-source {text!r}: takes UNIT=SOURCE, such as 1=movie:depth.mp4")
    return number.strip(), spec


def _size(text: str) -> dict[str, int]:
    """`512x384`, or `512` for a square."""
    width, cross, height = text.lower().partition("x")
    try:
        return {"width": int(width), "height": int(height if cross else width)}
    except ValueError:
        raise ConfigError(f"--size {text!r}: takes WIDTHxHEIGHT, such as 512x512") from None


def _nest(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    nested: dict[str, Any] = value
    return nested
