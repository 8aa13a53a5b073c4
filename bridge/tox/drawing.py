"""A drawing of the component's network as SVG: docs/touchdesigner.svg, from the same network.json that builds it.

Boxes stand where the operators stand in TouchDesigner; solid wires are its own, dashed roads leave it for the bridge.
"""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

from bridge.tox import component

BOX = 130, 64
COLOURS = {"TOP": "#6a5fb8", "DAT": "#a8568f"}
BRIDGE, INK, GROUND, FRAME = "#2f7d5b", "#f2f2f2", "#24262b", "#7d828c"
LEFT, RIGHT, TOP, BOTTOM = -780, 740, 900, -500
EDGES = -690, 610
BRIDGE_Y = 800
"""The bridge's box reaches from here to the top; y grows upward, as in TouchDesigner."""


class Road(NamedTuple):
    """A dashed way between an operator and the bridge, by a vertical lane at `lane`; `label` is at its upper end."""

    name: str
    lane: int
    label: str
    outward: bool


ROADS = (
    Road("in1", -452, "picture", True),
    Road("in2", -434, "its alpha", True),
    Road("in3", -416, "livelatent-control-1", True),
    Road("receive", -330, "picture", False),
    Road("hint", -160, "livelatent-hint", False),
    Road("oscin", -630, "telemetry, values", False),
    Road("oscout", -312, "parameters", True),
)
ENDS = {"in1": "picture", "in2": "mask", "in3": "control", "out1": "picture", "out2": "hint"}


def as_svg() -> str:
    """The drawing, always the same for the same network."""
    ops = {op["name"]: op for op in component.network()["ops"] if not _code(op)}
    parts = [_head(), _bridge()]
    parts += [_road(road, ops[road.name]) for road in ROADS]
    parts += [_wire(ops[source], op) for op in ops.values() for source in op.get("inputs", ())]
    parts += [_box(op) for op in ops.values()]
    parts += [_end(ops[name], text) for name, text in ENDS.items()]
    code = [str(op["name"]) for op in component.network()["ops"] if _code(op)]
    half = -(-len(code) // 2)
    for row, names in enumerate((code[:half], code[half:])):
        parts.append(_text(EDGES[0] + 14, BOTTOM + 46 - 22 * row, ("code: " if not row else "") + ", ".join(names), 14))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _code(op: dict[str, Any]) -> bool:
    return str(op["name"]).startswith(("ll_", "ext_"))


def _head() -> str:
    width, height = RIGHT - LEFT, TOP - BOTTOM
    arrow = (
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>'
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        arrow,
        f'<rect width="{width}" height="{height}" fill="{GROUND}"/>',
        _across(BRIDGE_Y - 40, BOTTOM + 10, f'fill="none" stroke="{FRAME}"'),
        _text(300, BRIDGE_Y - 64, "component livelatent, in TouchDesigner", 15),
    ]
    return "\n".join(lines)


def _bridge() -> str:
    text = "livelatent, a process of its own: sources, painter, sinks"
    return _across(TOP - 20, BRIDGE_Y, f'fill="{BRIDGE}"') + "\n" + _text(EDGES[0] + 14, TOP - 66, text, 17)


def _across(top: int, bottom: int, look: str) -> str:
    left, right = EDGES
    return f'<rect x="{_x(left)}" y="{_y(top)}" width="{right - left}" height="{top - bottom}" {look} rx="8"/>'


def _box(op: dict[str, Any]) -> str:
    x, y = op["at"]
    family = str(op["type"])[-3:]
    kind = str(op["type"])[:-3]
    return (
        f'<rect x="{_x(x)}" y="{_y(y + BOX[1])}" width="{BOX[0]}" height="{BOX[1]}" fill="{COLOURS[family]}" rx="5"/>\n'
        + _text(x + 8, y + 36, str(op["name"]), 14)
        + "\n"
        + _text(x + 8, y + 14, f"{kind} {family}", 10)
    )


def _wire(source: dict[str, Any], target: dict[str, Any]) -> str:
    (x1, y1), (x2, y2) = source["at"], target["at"]
    x1, y1, y2 = x1 + BOX[0], y1 + BOX[1] // 2, y2 + BOX[1] // 2
    bend = max(30, (x2 - x1) // 2)
    path = f"M{_x(x1)} {_y(y1)}C{_x(x1 + bend)} {_y(y1)} {_x(x2 - bend)} {_y(y2)} {_x(x2)} {_y(y2)}"
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="2"/>'


def _road(road: Road, op: dict[str, Any]) -> str:
    x, y = op["at"]
    side = x if road.lane < x else x + BOX[0]
    points = [(side, y + BOX[1] // 2 - 12), (road.lane, y + BOX[1] // 2 - 12), (road.lane, BRIDGE_Y)]
    points = points if road.outward else points[::-1]
    path = "L".join(f"{_x(px)} {_y(py)}" for px, py in points)
    turn = f'transform="rotate(-90 {_x(road.lane) - 4} {_y(BRIDGE_Y - 14)})"'
    return (
        f'<path d="M{path}" fill="none" stroke="{INK}" stroke-dasharray="5 4" marker-end="url(#a)"/>\n'
        f'<text x="{_x(road.lane) - 4}" y="{_y(BRIDGE_Y - 14)}" text-anchor="end" {turn} fill="{INK}" font-size="12">'
        f"{escape(road.label)}</text>"
    )


def _end(op: dict[str, Any], text: str) -> str:
    x, y = op["at"][0], op["at"][1] + BOX[1] // 2
    into = str(op["type"]) == "inTOP"
    x1, x2 = (LEFT + 10, x) if into else (x + BOX[0], RIGHT - 20)
    line = f'<path d="M{_x(x1)} {_y(y)}L{_x(x2)} {_y(y)}" stroke="{INK}" stroke-width="2" marker-end="url(#a)"/>'
    return line + "\n" + _text(LEFT + 10 if into else RIGHT - 110, y + 8, text, 14)


def _text(x: int, y: int, text: str, size: int) -> str:
    return f'<text x="{_x(x)}" y="{_y(y)}" fill="{INK}" font-size="{size}">{escape(text)}</text>'


def _x(x: int) -> int:
    return x - LEFT


def _y(y: int) -> int:
    return TOP - y
