"""TouchOSC's file: a tree of nodes as XML of the format `lexml`, version 6 (TouchOSC 1.5), compressed with zlib.

A node has properties, which are typed, values (`x`, `text`), messages, and children, whose places are relative to it.
Every node gets all properties that the editor itself writes for its type: what it does with one that is missing, nobody
has written down. Keys and texts are CDATA there, and here. After hexler.net/touchosc/manual and files of the editor.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

VERSION = 6
CONNECTIONS = "1" * 10

Type = Literal["GROUP", "PAGER", "FADER", "BUTTON", "LABEL"]


class Frame(NamedTuple):
    """Where a node is in its parent, in points."""

    x: float
    y: float
    w: float
    h: float


class Colour(NamedTuple):
    """0 to 1 each."""

    r: float
    g: float
    b: float
    a: float = 1.0


CLEAR = Colour(0, 0, 0, 0)
WHITE = Colour(1, 1, 1)

Property = bool | int | float | str | Frame | Colour

_EVERY: dict[str, Property] = {
    "background": True, "color": CLEAR, "cornerRadius": 1.0, "grabFocus": True, "interactive": True, "locked": False,
    "name": "", "orientation": 0, "outline": False, "outlineStyle": 0, "pointerPriority": 0, "script": "", "shape": 1,
    "tag": "", "visible": True,
}  # fmt: skip
_TEXT: dict[str, Property] = {
    "font": 0, "textAlignH": 2, "textAlignV": 2, "textClip": True, "textColor": WHITE, "textSize": 14,
}  # fmt: skip
_OF: dict[Type, dict[str, Property]] = {
    "GROUP": {"grabFocus": False, "interactive": False},
    "PAGER": {
        "grabFocus": False, "tabLabels": True, "tabbar": True, "tabbarDoubleTap": False, "tabbarSize": 40,
        "textSizeOff": 14, "textSizeOn": 14,
    },
    "FADER": {
        "bar": True, "barDisplay": 0, "cursor": True, "cursorDisplay": 0, "grid": False,
        "gridColor": Colour(0, 0, 0, 0.25), "gridSteps": 10, "orientation": 1, "response": 0, "responseFactor": 100,
    },
    "BUTTON": {"buttonType": 0, "press": True, "release": True, "valuePosition": False},
    "LABEL": {"background": False, "interactive": False, "textLength": 0, **_TEXT},
}  # fmt: skip
"""A button's type: 0 is momentary, 2 toggles when pressed. A fader's orientation 1 lies."""
_VALUES: dict[Type, tuple[str, ...]] = {
    "GROUP": (), "PAGER": ("page",), "FADER": ("x",), "BUTTON": ("x",), "LABEL": ("text",),
}  # fmt: skip
_UNSAID = frozenset({"name", "script", "tag"})
"""The editor leaves these out where they are empty."""


class Part(NamedTuple):
    """One argument of a message."""

    type: Literal["CONSTANT", "VALUE"]
    conversion: Literal["FLOAT", "INTEGER", "STRING"]
    value: str
    """The constant, or which of the node's values."""
    low: float = 0.0
    high: float = 1.0
    """What `x` 0 and 1 are sent as, and heard from."""


@dataclass(frozen=True, slots=True)
class Osc:
    """A message that a node sends, hears, or both."""

    address: str
    arguments: tuple[Part, ...] = ()
    send: bool = True
    receive: bool = True
    trigger: str = "x"
    condition: Literal["ANY", "RISE"] = "ANY"


@dataclass(slots=True)
class Node:
    type: Type
    frame: Frame
    properties: Mapping[str, Property] = field(default_factory=dict)
    value: float | str | None = None
    """Where it starts."""
    messages: tuple[Osc, ...] = ()
    children: list[Node] = field(default_factory=list)


def pack(root: Node) -> bytes:
    """The file."""
    return zlib.compress(xml(root).encode(), 9)


def xml(root: Node) -> str:
    return f"<?xml version='1.0' encoding='UTF-8'?><lexml version='{VERSION}'>{''.join(_node(root, 'root'))}</lexml>"


def _node(node: Node, path: str) -> Iterator[str]:
    # The same layout has the same identifiers: a change in the file is a change in the layout.
    yield f"<node ID='{uuid.uuid5(uuid.NAMESPACE_URL, f'livelatent:{path}')}' type='{node.type}'>"
    if path == "root":
        yield "<includes></includes>"
    properties = {**_EVERY, **_OF[node.type], **node.properties, "frame": node.frame}
    kept = ((key, value) for key, value in sorted(properties.items()) if key not in _UNSAID or value)
    yield _in("properties", "".join(_property(key, value) for key, value in kept))
    own = "".join(_value(key, node.value if node.value is not None else "" if key == "text" else 0)
                  for key in _VALUES[node.type])  # fmt: skip
    yield _in("values", own + _value("touch", False))
    if node.messages:
        yield _in("messages", "".join(_message(message) for message in node.messages))
    if node.children:
        yield "<children>"
        for number, child in enumerate(node.children):
            yield from _node(child, f"{path}/{number}")
        yield "</children>"
    yield "</node>"


def _in(tag: str, text: str) -> str:
    return f"<{tag}>{text}</{tag}>"


def _cdata(text: str) -> str:
    return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(int(value))


def _property(key: str, value: Property) -> str:
    if isinstance(value, (Frame, Colour)):
        kind = "r" if isinstance(value, Frame) else "c"
        inner = "".join(_in(name, _number(part)) for name, part in value._asdict().items())
    elif isinstance(value, str):
        kind, inner = "s", _cdata(value)
    else:
        kind = {bool: "b", int: "i", float: "f"}[type(value)]
        inner = _number(value)
    return f"<property type='{kind}'>{_in('key', _cdata(key))}{_in('value', inner)}</property>"


def _value(key: str, default: bool | float | str) -> str:
    text = str(default).lower() if isinstance(default, bool) else default if isinstance(default, str) else None
    return _in(
        "value",
        _in("key", _cdata(key))
        + "<locked>0</locked><lockedDefaultCurrent>0</lockedDefaultCurrent>"
        + _in("default", _cdata(_number(float(default)) if text is None else text))
        + "<defaultPull>0</defaultPull>",
    )


def _message(message: Osc) -> str:
    flags = {
        "enabled": True,
        "send": message.send,
        "receive": message.receive,
        "feedback": False,
        "noDuplicates": False,
    }
    trigger = _in("var", _cdata(message.trigger)) + _in("condition", message.condition)
    address = Part("CONSTANT", "STRING", message.address)
    return _in(
        "osc",
        "".join(_in(name, str(int(flag))) for name, flag in flags.items())
        + _in("connections", CONNECTIONS)
        + (_in("triggers", _in("trigger", trigger)) if message.send else "")
        + _in("path", _part(address))
        + _in("arguments", "".join(_part(part) for part in message.arguments)),
    )


def _part(part: Part) -> str:
    return _in(
        "partial",
        _in("type", part.type)
        + _in("conversion", part.conversion)
        + _in("value", _cdata(part.value))
        + _in("scaleMin", _number(float(part.low)))
        + _in("scaleMax", _number(float(part.high))),
    )
