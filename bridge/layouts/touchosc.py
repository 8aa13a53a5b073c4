"""Our pages as a TouchOSC layout.

What TouchOSC's own messages can do, they do: even faders, switches, buttons, texts and figures work without a script.
Scripts (the files in lua/) add the rest: they subscribe, write values in figures, light the choice that is on, step
whole numbers and leaf through names. Each runs in a Lua of its own; nodes tell each other by `notify`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

from bridge.layouts.pages import Control, Page
from bridge.layouts.tosc import CLEAR, WHITE, Colour, Frame, Node, Osc, Part, Property

WIDTH, HEIGHT = 1024, 768
"""An iPad's; TouchOSC fits it to any screen."""
TABS = 40
PAD, GAP = 12, 8
READING_H, BUTTON_H, ROW_H = 36.0, 60.0, 58.0
FIGURES_A_ROW, TEXTS_A_ROW = 4, 2
COLUMNS = 2
LEAST = 40.0
"""Nothing that is touched is lower than this; a test holds it."""
LABEL_W = 132.0
VALUE_W = 76.0
LISTEN_PORT = 9001
BLACK, PANEL, OFF, DIM = (
    Colour(0.05, 0.05, 0.06),
    Colour(0.11, 0.11, 0.13),
    Colour(0.2, 0.2, 0.23),
    Colour(0.65, 0.65, 0.7),
)
MANY_STEPS = 20
HUGE = 1_000_000


def layout(pages: Sequence[Page], prefix: str, listen_port: int = LISTEN_PORT) -> Node:
    """The whole document. `listen_port`: where TouchOSC is set to receive."""
    pager = Node(
        "PAGER",
        Frame(0, 0, WIDTH, HEIGHT),
        {"name": "pages", "color": BLACK, "tabbarSize": TABS, "textSizeOff": 11, "textSizeOn": 11},
        children=[_page(page, _accent(number, len(pages))) for number, page in enumerate(pages)],
    )
    script = _script("surface", PREFIX=prefix, PORT=listen_port)
    return Node(
        "GROUP", Frame(0, 0, WIDTH, HEIGHT), {"name": "livelatent", "color": BLACK, "script": script}, children=[pager]
    )


def _accent(number: int, of: int) -> Colour:
    return Colour(*(round(part, 3) for part in colorsys.hsv_to_rgb((0.55 + number / of) % 1, 0.62, 0.82)))


def _page(page: Page, accent: Colour) -> Node:
    children: list[Node] = []
    y = float(PAD)
    for control, place in _places(page.readings, y):
        children.append(_reading(control, place, accent))
        y = place.y + READING_H + GAP
    lines = -(-len(page.rows) // COLUMNS)
    room = HEIGHT - TABS - PAD - y - len(page.buttons) * GAP - lines * GAP
    squeeze = min(1.0, room / max(1.0, len(page.buttons) * BUTTON_H + lines * ROW_H))
    rows = {control.address: control for control in page.rows}
    for row in page.buttons:
        width = (WIDTH - 2 * PAD - (len(row) - 1) * GAP) / len(row)
        for number, control in enumerate(row):
            place = Frame(PAD + number * (width + GAP), y, width, BUTTON_H * squeeze)
            if control.kind == "switch":
                children += [_switch(control, place, accent), _label(control.label, place, textSize=13)]
            else:
                children += _button(control, place, accent, rows)
        y += BUTTON_H * squeeze + GAP
    width = (WIDTH - 2 * PAD - (COLUMNS - 1) * GAP) / COLUMNS
    for number, control in enumerate(page.rows):
        column, line = divmod(number, lines)  # downwards first, as one reads a list
        place = Frame(PAD + column * (width + GAP), y + line * (ROW_H * squeeze + GAP), width, ROW_H * squeeze)
        children.append(_row(control, place, accent))
    frame = Frame(0, TABS, WIDTH, HEIGHT - TABS)
    tab: dict[str, Property] = {
        "tabColorOff": OFF, "tabColorOn": accent, "tabLabel": page.title, "textColorOff": WHITE, "textColorOn": WHITE,
    }  # fmt: skip
    return Node("GROUP", frame, {"name": page.title, "color": CLEAR, **tab}, children=children)


# Figures and buttons


def _places(readings: Sequence[Control], y: float) -> Iterator[tuple[Control, Frame]]:
    """Numbers first, four in a line; then texts, which are longer, two in a line."""
    for a_row, is_text in ((FIGURES_A_ROW, False), (TEXTS_A_ROW, True)):
        some = [control for control in readings if isinstance(control.default, str) is is_text]
        width = (WIDTH - 2 * PAD - (a_row - 1) * GAP) / a_row
        for number, control in enumerate(some):
            line, column = divmod(number, a_row)
            yield control, Frame(PAD + column * (width + GAP), y + line * (READING_H + GAP), width, READING_H)
        y += -(-len(some) // a_row) * (READING_H + GAP)


def _reading(control: Control, place: Frame, accent: Colour) -> Node:
    name = _label(control.label, Frame(8, 0, LABEL_W, place.h), textAlignH=1, textColor=DIM, textSize=12)
    value = _told(control, Frame(LABEL_W, 0, place.w - LABEL_W - 8, place.h), accent)
    return Node("GROUP", place, {"name": control.label, "color": PANEL}, children=[name, value])


def _told(control: Control, place: Frame, accent: Colour, **more: Property) -> Node:
    """What is told at this address, as text."""
    heard = Osc(control.address, (Part("VALUE", "STRING", "text"),), send=False)
    return _label(str(control.default), place, "value", (heard,), textAlignH=3, textColor=accent, **more)


def _button(control: Control, place: Frame, accent: Colour, rows: Mapping[str, Control]) -> list[Node]:
    """With arguments: sent when pressed. Without: the press itself, 1, and 0 when it is let go."""
    if control.args:
        message = Osc(control.address, tuple(map(_constant, control.args)), receive=False, condition="RISE")
    else:
        message = Osc(control.address, (Part("VALUE", "FLOAT", "x"),), receive=False)
    row = rows.get(control.address)
    script = _script("word", ROW=row.label, TEXT=control.args[0]) if row and row.kind == "text" else ""
    button = Node("BUTTON", place, {"name": control.label, "color": accent, "script": script}, messages=(message,))
    return [button, _label(control.label, place, textSize=13)]


def _switch(control: Control, place: Frame, accent: Colour) -> Node:
    message = Osc(control.address, (Part("VALUE", "FLOAT", "x"),))
    properties: dict[str, Property] = {"name": control.label, "color": accent, "buttonType": 2, "outline": True}
    return Node("BUTTON", place, properties, float(control.default), (message,))


def _constant(value: str | int | float) -> Part:
    if isinstance(value, str):
        return Part("CONSTANT", "STRING", value)
    return Part("CONSTANT", "INTEGER" if isinstance(value, int) else "FLOAT", f"{value:.10g}")


# Rows: the name on the left, what moves it on the right


def _row(control: Control, place: Frame, accent: Colour) -> Node:
    named = f"{control.label} ({control.unit})" if control.unit else control.label
    name = _label(named, Frame(8, 0, LABEL_W - 8, place.h), textAlignH=1, textSize=13)
    inner = Frame(LABEL_W, 5, place.w - LABEL_W - 6, place.h - 10)
    children, script = _ROWS[control.kind](control, inner, accent)
    properties: dict[str, Property] = {"name": control.label, "color": PANEL, "tag": control.address, "script": script}
    return Node("GROUP", place, properties, children=[name, *children])


def _slider(control: Control, place: Frame, accent: Colour) -> tuple[list[Node], str]:
    low, high, power = control.low, control.high, 2 if control.curve == "square" else 1
    at = ((float(control.default) - low) / (high - low)) ** (1 / power)
    # Its own message can't bend its travel: where that is wanted, the script sends and hears.
    even = Osc(control.address, (Part("VALUE", "FLOAT", "x", low, high),), send=power == 1, receive=power == 1)
    fader = Node(
        "FADER",
        place._replace(w=place.w - VALUE_W),
        {"name": "fader", "color": accent, "script": _script("fader")},
        at,
        (even,),
    )
    form = "%.0f" if high - low > 100 else "%.1f" if high - low > 10 else "%.2f" if high - low > 1 else "%.3f"
    value = _label(form % control.default, _right(place), "value", textAlignH=3, textColor=accent)
    return [fader, value], _script("slider", ADDRESS=control.address, LOW=low, HIGH=high, POWER=power, FORMAT=form)


def _toggle(control: Control, place: Frame, accent: Colour) -> tuple[list[Node], str]:
    return [_switch(control, place._replace(w=max(90.0, place.w / 4)), accent)], ""


def _choice(control: Control, place: Frame, accent: Colour) -> tuple[list[Node], str]:
    count, children = len(control.options), []
    width = (place.w - (count - 1) * 4) / count
    for number, option in enumerate(control.options):
        spot = place._replace(x=place.x + number * (width + 4), w=width)
        message = Osc(control.address, (_constant(option),), receive=False, condition="RISE")
        colour = accent if option == control.default else OFF
        properties: dict[str, Property] = {
            "name": str(option), "tag": str(option), "color": colour, "script": _script("press"), "outline": True,
        }  # fmt: skip
        children += [
            Node("BUTTON", spot, properties, messages=(message,)),
            _label(str(option).replace("_", " "), spot, textSize=12),
        ]
    return children, _script("choice", ON=accent, OFF=OFF)


def _number(control: Control, place: Frame, accent: Colour) -> tuple[list[Node], str]:
    many = (control.high - control.low) / control.step > MANY_STEPS
    far = [(10 if control.step == 1 else 4) * control.step] if many else []
    low, high, step = int(control.low), int(control.high), control.step
    left = [f"{-by}" for by in (*far, step)]
    right = [f"+{by}" for by in (step, *far)] + (["?"] if high > HUGE else [])
    children = _stepped([*left, "", *right], f"{control.default}", place, accent)
    return children, _script("number", ADDRESS=control.address, LOW=low, HIGH=high, NOW=int(control.default))


def _list(control: Control, place: Frame, accent: Colour) -> tuple[list[Node], str]:
    children = _stepped(["-1", "", "+1", "set"], str(control.default), place, accent)
    names = [str(option) for option in control.options]
    return children, _script("list", ADDRESS=control.address, NAMES=names, NOW=str(control.default))


_SHOWN = {"-1": "‹", "+1": "›"}


def _stepped(tags: list[str], default: str, place: Frame, accent: Colour) -> list[Node]:
    """Buttons with these tags; where one is empty, the value."""
    small = 52.0
    wide = place.w - (len(tags) - 1) * (small + 4)
    x, children = place.x, []
    for tag in tags:
        spot = place._replace(x=x, w=small if tag else wide)
        if tag:
            properties: dict[str, Property] = {"name": tag, "tag": tag, "color": OFF, "script": _script("press")}
            children += [Node("BUTTON", spot, properties), _label(_SHOWN.get(tag, tag), spot)]
        else:
            children.append(_label(default, spot, "value", textColor=accent))
        x += spot.w + 4
    return children


def _text(control: Control, place: Frame, accent: Colour) -> tuple[list[Node], str]:
    return [_told(control, place, accent, textSize=13)], ""


_ROWS: dict[str, Callable[[Control, Frame, Colour], tuple[list[Node], str]]] = {
    "slider": _slider, "switch": _toggle, "choice": _choice, "number": _number, "list": _list, "text": _text,
}  # fmt: skip


def _label(text: str, place: Frame, name: str = "", messages: tuple[Osc, ...] = (), **properties: Property) -> Node:
    return Node("LABEL", place, {"name": name or "text", **properties}, text, messages)


def _right(place: Frame) -> Frame:
    return Frame(place.x + place.w - VALUE_W, place.y, VALUE_W, place.h)


# Scripts


@cache
def _lua(name: str) -> str:
    return (files("bridge.layouts") / "lua" / f"{name}.lua").read_text("utf-8")


def _script(name: str, **constants: object) -> str:
    """The file, below what it calls its constants."""
    return "".join(f"local {key} = {_literal(value)}\n" for key, value in constants.items()) + _lua(name)


def _literal(value: object) -> str:
    if isinstance(value, Colour):
        return f"Color({', '.join(f'{part:g}' for part in value)})"
    if isinstance(value, list):
        return "{" + ", ".join(map(_literal, value)) + "}"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    return f"{value:.10g}" if isinstance(value, (int, float)) else str(value)
