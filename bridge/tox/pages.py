"""The component's custom parameter pages, generated from the parameter table: td/component/pages.json.

TouchDesigner's custom parameters have names of one capital and then small letters and digits: `control1_pixel_perfect`
is `Control1pixelperfect` there, and the row's OSC address stands beside it. A page of our own comes first, how to reach
the bridge, and one last: how it is doing.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from itertools import groupby
from typing import Any, NotRequired, TypedDict

from bridge.config import OscConfig
from bridge.drivers import SINKS, SOURCES
from bridge.ring_layout import PROTOCOL
from bridge.run_cli import configure
from bridge.sinks.shm import DEFAULT_NAME as RING_OUT
from bridge.sinks.zmq import DEFAULT_ADDRESS as ZMQ_OUT
from bridge.sources.shm import DEFAULT_NAME as RING_IN
from bridge.sources.zmq import DEFAULT_ADDRESS as ZMQ_IN
from bridge.store import fades
from bridge.version import __version__
from engines import paths
from engines.modelrows import NO_CONTROLNET
from pipelines.params import ParamSpec, table

LISTEN_PORT = 9001
CONTROL_NAME, HINT_NAME = "livelatent-control-1", "livelatent-hint"
CONTROL_PORT, HINT_PORT = 5573, 5574
"""Where the third input goes, and where the second output comes from."""
NO_PRESET = {"pause", "bypass", "colour_capture", "upgrade"}
"""Rows that are an act, not a look. Structural ones are left out too: a preset is there with the next frame."""
APART = {"movie"}
"""Drivers that are source and sink, but no way to this component."""
AUTO = "Auto: shared memory on this machine, ZMQ to another."
COSTS = {
    "shm": "Shared memory: same machine, about 1 ms at 512², nothing to install.",
    "cuda-ipc": "Cuda-ipc: same machine and NVIDIA card, where the pictures stay; not yet run on one; else as shm.",
    "zmq": "ZMQ: another machine, or this one; needs pyzmq beside the component (livelatent td install).",
    "ndi": "NDI: another machine, compressed, one to three frames late; TouchDesigner's own operators.",
    "spout": "Spout: same machine and graphics card, Windows; TouchDesigner's own operators.",
    "syphon": "Syphon: same machine, macOS; TouchDesigner's own operators.",
}
NATIVE = {"ndi": "ndi", "spout": "syphonspout", "syphon": "syphonspout"}
"""Transports that TouchDesigner has operators for, and which."""

LABELS = {
    "Latencyp50": "Latency p50",
    "Latencyp99": "Latency p99",
    "Controlstate": "Control state",
    "Modelinfo": "Running model",
    "Sourceinfo": "Running source",
}


class Parameter(TypedDict):
    """One custom parameter. `address` is there for a row of the table, `readonly` for a figure."""

    name: str
    label: str
    style: str
    help: str
    default: NotRequired[bool | int | float | str]
    min: NotRequired[float]
    max: NotRequired[float]
    menu: NotRequired[list[str]]
    labels: NotRequired[list[str]]
    readonly: NotRequired[bool]
    section: NotRequired[bool]
    address: NotRequired[str]
    kind: NotRequired[str]
    preset: NotRequired[bool]
    fades: NotRequired[bool]
    reading: NotRequired[str]


def td_name(name: str) -> str:
    """A row's name as TouchDesigner takes it: `seed_mix` → `Seedmix`."""
    return name.replace("_", "").capitalize()


def transports() -> list[str]:
    """The ways between two programs that this bridge has drivers for, in the order of the menu."""
    return [name for name in SOURCES if name in SINKS and name not in APART]


def document() -> dict[str, Any]:
    """All that the component has to know of this bridge."""
    return {
        "version": __version__,
        "prefix": OscConfig().prefix,
        "ring_protocol": PROTOCOL,
        "native": {name: NATIVE[name] for name in transports() if name in NATIVE},
        "control_source": "--control-source" in _run_options(),
        "hint_sink": "--hint-sink" in _run_options(),
        "pages": [
            {"name": "Livelatent", "pars": own()},
            *({"name": group.capitalize(), "pars": [of_row(s) for s in specs]} for group, specs in _groups()),
            {"name": "Presets", "pars": presets()},
            {"name": "Status", "pars": figures()},
        ],
    }


def _run_options() -> str:
    """What `livelatent run` takes, as argparse words it."""
    parser = argparse.ArgumentParser()
    configure(parser)
    return parser.format_usage()


def as_json() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _groups() -> list[tuple[str, list[ParamSpec]]]:
    return [(name, list(specs)) for name, specs in groupby(table().values(), key=lambda spec: spec.group)]


def of_row(spec: ParamSpec) -> Parameter:
    """A row of the table as a custom parameter: same range, default, choices and words."""
    name = spec.name.removeprefix(spec.group.replace(" ", "") + "_") if " " in spec.group else spec.name
    seconds = " Over OSC it takes seconds as a second argument." if spec.ramps else ""
    made: Parameter = {
        "name": td_name(spec.name),
        "label": name.replace("_", " ").capitalize() + (f" ({spec.unit})" if spec.unit else ""),
        "style": _style(spec),
        "help": f"{spec.doc}{seconds} [{OscConfig().prefix}/{spec.address}]",
        "default": spec.default,
        "address": f"{OscConfig().prefix}/{spec.address}",
        "kind": spec.kind,
    }
    if spec.low is not None and spec.high is not None:
        made["min"], made["max"] = spec.low, spec.high
    if spec.kind != "structural" and spec.name not in NO_PRESET:
        made["preset"] = True
    if spec.ramps or fades(spec):
        made["fades"] = True
    if spec.choices or spec.ids:
        made["menu"] = list(spec.choices) or shipped(spec.ids)
    return made


def _style(spec: ParamSpec) -> str:
    if spec.ids:
        return "StrMenu"
    if spec.choices:
        return "Menu"
    return {bool: "Toggle", int: "Int", float: "Float", str: "Str"}[spec.type]


def shipped(ids: str) -> list[str]:
    """The ids that livelatent knows without the user's own; a StrMenu takes any other too."""
    known = tomllib.loads((paths.data("configs") / "models.toml").read_text("utf-8"))
    return list(known[ids]) if ids == "models" else [NO_CONTROLNET, *known.get(ids, {})]


def own() -> list[Parameter]:
    """The first page: start and stop, and how to reach the bridge."""
    menu = ["auto", *transports()]
    costs = [COSTS.get(name, f"{name}: see docs/touchdesigner.md.") for name in transports()]
    return [
        {"name": "Status", "label": "Status", "style": "Str", "readonly": True, "default": "", "help": "What happens."},
        {"name": "Active", "label": "Active", "style": "Toggle", "default": True, "help": "Send and receive."},
        _pulse("Start", "Start a livelatent on this machine; one that answers already is joined."),
        _pulse("Stop", "Stop the livelatent that was started here."),
        _pulse("Restart", "Stop and start it; one on another machine restarts its worker."),
        {
            "name": "Transport",
            "label": "Transport",
            "style": "Menu",
            "default": "auto",
            "menu": menu,
            "labels": ["Auto", *(name.upper() if len(name) < 4 else name.capitalize() for name in menu[1:])],
            "help": " ".join([AUTO, *costs]),
            "section": True,
        },
        _text("Host", "127.0.0.1", "Machine that livelatent runs on."),
        _port("Oscport", "OSC port", OscConfig().port, "UDP port that livelatent listens on."),
        _port("Listenport", "Listen port", LISTEN_PORT, "UDP port that this component listens on."),
        _text("Inname", RING_IN, "Shared memory, NDI or Spout name of what goes to livelatent.", label="In name"),
        _text("Outname", RING_OUT, "The same of what comes back.", label="Out name"),
        _text("Controlname", CONTROL_NAME, "The same of the third input's picture.", label="Control name"),
        _text("Hintname", HINT_NAME, "The same of the second output's picture.", label="Hint name"),
        _port("Inport", "In port", int(ZMQ_IN.rpartition(":")[2]), "ZMQ port to send to."),
        _port("Outport", "Out port", int(ZMQ_OUT.rpartition(":")[2]), "ZMQ port to receive from."),
        _port("Controlport", "Control port", CONTROL_PORT, "ZMQ port to send the third input to."),
        _port("Hintport", "Hint port", HINT_PORT, "ZMQ port to receive the second output from."),
        {
            "name": "Codec",
            "label": "Codec",
            "style": "Menu",
            "default": "raw",
            "menu": ["raw", "jpeg"],
            "labels": ["Raw", "JPEG"],
            "help": "ZMQ: raw costs network, JPEG time and some sharpness; 1 Gbit/s wants JPEG from 720p on.",
        },
        _text("Keyfile", "", "ZMQ to another machine: the file of `livelatent keys client`.", "File", "Key file"),
        _text("Command", "", "What starts livelatent; empty finds it.") | {"section": True},
        _text("Arguments", "--no-browser", "Options of `livelatent run` besides those that follow from this page."),
        {
            "name": "Autostart",
            "label": "Auto start",
            "style": "Toggle",
            "default": False,
            "help": "Start livelatent with the project.",
        },
    ]


def presets() -> list[Parameter]:
    """The page of presets: how all the other pages' parameters stood, under a name, inside the component."""
    return [
        _text("Preset", "", "A preset's name: choose one, or write a new one.", "StrMenu"),
        _pulse("Recall", "Set everything as it was. Structural parameters (the model, its size) stay."),
        _pulse("Store", "Keep under this name how everything stands; it is saved with the project."),
        _pulse("Delete", "Forget the preset of this name."),
        {
            "name": "Fade",
            "label": "Fade (s)",
            "style": "Float",
            "default": 0.0,
            "min": 0.0,
            "max": 60.0,
            "help": "Seconds in which Recall goes there; what has no way between changes at once.",
        },
    ]


def figures() -> list[Parameter]:
    """The last page: what the bridge tells, and what only this side knows. All read-only."""
    told = [
        ("State", "Str", "/state", "off, waiting, starting, running, holding, failed, paused or error."),
        ("Fps", "Float", "/fps", "Painted frames per second."),
        ("Latencyp50", "Float", "/latency/p50", "ms from capture to output, median."),
        ("Latencyp99", "Float", "/latency/p99", "ms from capture to output, all but the slowest hundredth."),
        ("Age", "Float", "/age", "ms, age of the picture that the bridge shows."),
        ("Restarts", "Int", "/restarts", "Workers that were replaced."),
        ("Dropped", "Int", "/dropped", "Frames left out by the bridge, newer ones won."),
        ("Modelinfo", "Str", "/info/model", "What paints."),
        ("Sourceinfo", "Str", "/info/source", "Where the bridge has its frames from."),
        ("Error", "Str", "/error", "What went wrong last."),
        ("Controlstate", "Str", "/control/state", "Control units that act."),
        ("Bridge", "Str", "/info/version", "Version of the bridge, and the component that it carries."),
    ]
    ours = [
        ("Roundtrip", "Float", "ms from this component's input to its output, median of the last 64."),
        ("Sent", "Int", "Frames sent."),
        ("Received", "Int", "Pictures received."),
        ("Skipped", "Int", "Frames that were replaced by newer ones before they were sent."),
        ("Component", "Str", "Version and hash of this component."),
    ]
    rows: list[Parameter] = [
        _figure(name, style, text) | {"reading": OscConfig().prefix + reading} for name, style, reading, text in told
    ]
    return rows + [_figure(name, style, text) for name, style, text in ours]


def _figure(name: str, style: str, text: str) -> Parameter:
    label = LABELS.get(name, name)
    blank: str | int = "" if style == "Str" else 0
    return {"name": name, "label": label, "style": style, "help": text, "default": blank, "readonly": True}


def _pulse(name: str, text: str) -> Parameter:
    return {"name": name, "label": name, "style": "Pulse", "help": text}


def _text(name: str, default: str, text: str, style: str = "Str", label: str = "") -> Parameter:
    return {"name": name, "label": label or name, "style": style, "default": default, "help": text}


def _port(name: str, label: str, default: int, text: str) -> Parameter:
    return {"name": name, "label": label, "style": "Int", "default": default, "min": 1, "max": 65535, "help": text}
