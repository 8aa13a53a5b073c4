"""The ways to hand frames to another program: which there are here, what each costs, and which `auto` takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from bridge.drivers import EXTRAS, SYSTEMS, at_home


class Transport(NamedTuple):
    """A row. `source` and `sink` are specs to begin with; `missing` is empty where it can be used."""

    name: str
    source: str
    sink: str
    cost: str
    missing: str = ""


_COSTS = {
    "spout": "TouchDesigner's own TOPs; the bridge copies each picture from and to the graphics card",
    "syphon": "TouchDesigner's own TOPs; the bridge copies each picture from and to the graphics card",
    "shm": "one copy: 0.5 ms at 512x512, 1.1 ms at 1920x1080",
    "zmq": "two copies and a socket: 0.9 ms at 512x512, 3.8 ms at 1920x1080; as JPEG 2 and 10 ms, for thin networks",
    "ndi": "compressed, in any program: 3.5 ms at 512x512, 12 ms at 1920x1080; anyone in the network can watch",
}
"""What a picture costs, one way: medians between two processes on two 4 GHz cores (`livelatent bench transport`)."""
_HERE = ("spout", "syphon", "shm", "zmq", "ndi")
_AWAY = ("zmq", "ndi")
_SPECS = {"zmq": ("zmq", "zmq?codec=jpeg")}


def ranked(remote: bool = False, missing: Callable[[str], str] | None = None) -> list[Transport]:
    """The best first: what can be used here, then what can't, with the reason. `remote`: to another machine.

    On one machine, what TouchDesigner has TOPs for comes first, as nothing of it runs in its Python; then what costs
    least. To another machine ZMQ comes before NDI: it takes half the time, and keys (CURVE).
    """
    missing = missing or why_not
    rows = [
        Transport(name, *(_SPECS.get(name, (name, name)) if remote else (name, name)), _COSTS[name], missing(name))
        for name in (_AWAY if remote else _HERE)
    ]
    return sorted(rows, key=lambda row: bool(row.missing))


def auto(remote: bool = False, missing: Callable[[str], str] | None = None) -> Transport:
    """The one that `auto` means."""
    return ranked(remote, missing)[0]


def why_not(name: str) -> str:
    """Why the driver `name` can't be used here; empty when it can. Connects to nothing."""
    if not at_home(name):
        return f"there on {SYSTEMS[name][1]} only"
    try:
        module = importlib.import_module(f"bridge.sources.{name}")
        getattr(module, "require", lambda: None)()
    except ImportError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        return f"`pip install livelatent[{extra}]`" if extra else str(error)
    return ""
