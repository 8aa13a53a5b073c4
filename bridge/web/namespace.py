"""What OSCQuery tells of our OSC addresses: the parameter table, the readings and the commands as a tree of JSON.

The OSCQuery proposal (Vidvox 2018): a node has FULL_PATH and DESCRIPTION, a folder CONTENTS, a value TYPE, ACCESS (1 to
be read, 2 to be written), VALUE and RANGE. No I/O here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.dispatch import COMMANDS
from bridge.telemetry import READINGS, SHOW
from pipelines.params import ParamSpec, table

Value = bool | int | float | str
Node = dict[str, Any]

ATTRIBUTES = frozenset({"FULL_PATH", "CONTENTS", "TYPE", "ACCESS", "VALUE", "RANGE", "DESCRIPTION"})
EXTENSIONS = {"ACCESS": True, "VALUE": True, "RANGE": True, "DESCRIPTION": True, "TYPE": True, "LISTEN": True}
_TYPES = {bool: "T", int: "i", float: "f", str: "s"}
READ, WRITE = 1, 2


def host_info(osc_ip: str, osc_port: int, ws_ip: str, ws_port: int) -> Node:
    return {
        "NAME": "livelatent",
        "EXTENSIONS": EXTENSIONS,
        "OSC_IP": osc_ip,
        "OSC_PORT": osc_port,
        "OSC_TRANSPORT": "UDP",
        "WS_IP": ws_ip,
        "WS_PORT": ws_port,
    }


def rows(
    prefix: str, values: Mapping[str, Value], seen: Mapping[str, float | str], ids: Mapping[str, list[str]]
) -> dict[str, Node]:
    """Every address with its attributes. `values`: the parameters; `seen`: `telemetry.readings`; `ids`: by registry."""
    out = {}
    for name, spec in table().items():
        out[f"{prefix}/{spec.address}"] = _param(spec, values[name], ids)
    for row in (*READINGS, *SHOW):
        doc = f"{row.doc} ({row.unit})" if row.unit else row.doc
        value = seen.get(row.address, row.type())
        out[prefix + row.address] = {"TYPE": _TYPES[row.type], "ACCESS": READ, "VALUE": [value], "DESCRIPTION": doc}
    for command, doc in COMMANDS.items():
        out[f"{prefix}/{command}"] = {"TYPE": "I", "ACCESS": WRITE, "DESCRIPTION": doc}
    return out


def _param(spec: ParamSpec, value: Value, ids: Mapping[str, list[str]]) -> Node:
    doc = f"{spec.doc} ({spec.unit})" if spec.unit else spec.doc
    node: Node = {"TYPE": _TYPES[spec.type], "ACCESS": READ | WRITE, "VALUE": [value], "DESCRIPTION": doc}
    choices = list(spec.choices) or ids.get(spec.ids, [])
    if choices:
        node["RANGE"] = [{"VALS": choices}]
    elif spec.low is not None and spec.high is not None and spec.type is not bool:
        node["RANGE"] = [{"MIN": spec.type(spec.low), "MAX": spec.type(spec.high)}]
    return node


def find(leaves: Mapping[str, Node], path: str) -> Node | None:
    """The node at this path with all that is below it; None if there is none."""
    path = path.rstrip("/") or "/"
    if path in leaves:
        return {"FULL_PATH": path, **leaves[path]}
    start = path if path == "/" else f"{path}/"
    below = {address: node for address, node in leaves.items() if address.startswith(start)}
    if not below:
        return None
    root: Node = {"FULL_PATH": path, "ACCESS": 0, "CONTENTS": {}}
    for address, leaf in below.items():
        node, at = root, path.rstrip("/")
        *folders, last = address[len(start) :].split("/")
        for folder in folders:
            at = f"{at}/{folder}"
            node = node["CONTENTS"].setdefault(folder, {"FULL_PATH": at, "ACCESS": 0, "CONTENTS": {}})
        node["CONTENTS"][last] = {"FULL_PATH": address, **leaf}
    return root
