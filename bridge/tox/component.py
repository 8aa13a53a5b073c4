"""The TouchDesigner component's sources: where they lie, which they are, and the nodes that they make.

`td/component` has one file for each Text DAT, `network.json` (operators, wires, parameters) and `pages.json` (custom
parameters, generated). td/build_in_td.py reads the same files inside TouchDesigner.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from bridge.ring_layout import PROTOCOL
from bridge.tox.expand import Node
from bridge.version import __version__
from engines import paths


def folder() -> Path:
    """The component's sources, in a checkout or in a wheel."""
    return paths.data("td") / "component"


@cache
def component_hash() -> str:
    """12 hex digits over names and contents of the sources; line ends do not count. Empty without sources."""
    digest = hashlib.sha256()
    for path in sorted(folder().glob("*.*"), key=lambda path: path.name):
        if path.suffix in (".py", ".json"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]


def build_note() -> dict[str, Any]:
    """What the component knows of itself: the text of its DAT `build`."""
    return {"version": __version__, "hash": component_hash(), "protocol": PROTOCOL}


def network() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder() / "network.json").read_text("utf-8"))
    return read


def pages() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder() / "pages.json").read_text("utf-8"))
    return read


def tree() -> Node:
    """The component as nodes, for the expanded form. Its extension makes the custom pages when it first runs."""
    described = network()
    extension = described["extension"]
    own = {name: str(value) for name, value in described["pars"].items() if value not in ("", 0)}
    own = {name: "on" if name == "initextonstart" else value for name, value in own.items()}
    own |= {"ext0object": extension["object"], "ext0name": extension["name"]}
    children = [_node(op) for op in described["ops"]]
    return Node("baseCOMP", described["name"], (0, 0, 200, 150), parameters=own, viewer=True, children=children)


TOGGLES = {"active", "splitbundle", "start", "create", "framestart", "valuechange", "onpulse", "custom", "builtin"}
TOGGLES |= {"usespoutactivesender", "frameend"}


def _node(op: dict[str, Any]) -> Node:
    values: dict[str, str] = {}
    for names, value in op.get("pars", {}).items():
        name = names.partition("|")[0]
        values[name] = ("on" if value else "off") if name in TOGGLES else str(value)
    if "file" in op and op["file"].endswith(".py"):
        values["language"] = "python"
    x, y = op["at"]
    tile = (x, y, 130, 90)
    return Node(
        op["type"], op["name"], tile, list(op.get("inputs", ())), values, dock=op.get("dock", ""), text=text_of(op)
    )


def text_of(op: dict[str, Any]) -> str | None:
    """The text of a DAT of the network, None for an operator without one."""
    name, kind = str(op["name"]), str(op["type"])
    if name == "build":
        return json.dumps(build_note())
    if "file" in op:
        return (folder() / str(op["file"])).read_text("utf-8")
    return "" if kind == "textDAT" else None
