"""Our pages as a session of Open Stage Control, the JSON of its version 1.

Widgets that share an `id` show one value and send it once: that is how a fader has its figures beside it, to be typed
in too. The session subscribes by itself when a browser opens it. After openstagecontrol.ammd.net/docs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from bridge.layouts.pages import FEW, Control, Page

VERSION = "1.29.2"
"""Of the app whose properties these are; a newer one converts what has changed since."""
Widget = dict[str, Any]
LEASE_S, RENEW_MS = 90, 20_000
COLUMNS = 2
READING_H, BUTTON_H, ROW_H = 40, 56, 56
LABEL_W, VALUE_W = 140, 90
MOST_STEPS = 64
"""Whole numbers with more values than this are typed, not slid."""
CSS = ".tablink { font-size: 11rem; letter-spacing: 0; padding: 0 2rem; white-space: nowrap; }"
"""All tabs in one line of a tablet; the app's rem is a pixel."""
WHITE = "#ffffff"
ACCENTS = ("#3c8fd1", "#5b73d6", "#8a63d2", "#b35bbf", "#cf5b8f", "#d1685a", "#c98a3c", "#9aa33f", "#57a85c", "#3fa694")


def session(pages: Sequence[Page], prefix: str) -> Widget:
    """The whole file, as JSON's types."""
    tabs = [_tab(page, ACCENTS[number % len(ACCENTS)]) for number, page in enumerate(pages)]
    subscribe = f"send('{prefix}/subscribe', {{type: 'i', value: 0}}, {{type: 'f', value: {LEASE_S}}})"
    script = f"{subscribe}\nsend('{prefix}/get')\nsetInterval(() => {{ {subscribe} }}, {RENEW_MS})"
    root = {"type": "root", "id": "root", "bypass": True, "css": CSS, "onCreate": script, "tabs": tabs}
    return {"createdWith": "Open Stage Control", "version": VERSION, "type": "session", "content": root}


def as_json(pages: Sequence[Page], prefix: str) -> str:
    return json.dumps(session(pages, prefix), indent=1, ensure_ascii=False) + "\n"


def _tab(page: Page, accent: str) -> Widget:
    numbers = [control for control in page.readings if not isinstance(control.default, str)]
    texts = [control for control in page.readings if isinstance(control.default, str)]
    parts = [_grid(f"{page.title} figures", [_reading(c, page) for c in numbers], 4, READING_H)] if numbers else []
    parts += [_grid(f"{page.title} texts", [_reading(c, page) for c in texts], 2, READING_H)] if texts else []
    rows = {control.address for control in page.rows}
    for number, row in enumerate(page.buttons):
        name = f"{page.title} buttons {number + 1}"
        made = [_switch(c) if c.kind == "switch" else _button(c, rows) for c in row]
        parts.append(_grid(name, made, len(row), BUTTON_H))
    if page.rows:
        parts.append(_grid(f"{page.title} rows", [_row(control) for control in page.rows], COLUMNS, ROW_H))
    return {
        "type": "tab", "id": page.title, "bypass": True, "layout": "vertical", "colorWidget": accent,
        "padding": 8, "widgets": parts,
    }  # fmt: skip


def _grid(name: str, widgets: list[Widget], columns: int, height: int) -> Widget:
    lines = -(-len(widgets) // columns)
    return {
        **_panel(name, widgets), "layout": "grid", "gridTemplate": columns, "padding": 6,
        "height": lines * (height + 6),
    }  # fmt: skip


def _panel(name: str, widgets: list[Widget]) -> Widget:
    # A panel and a tab would send where they are scrolled to, at an address of their own.
    return {
        "type": "panel", "id": name, "bypass": True, "scroll": False, "innerPadding": False, "alphaStroke": 0,
        "colorBg": "transparent", "widgets": widgets,
    }  # fmt: skip


def _reading(control: Control, page: Page) -> Widget:
    value = {"type": "text", "id": f"{page.title}{control.address}", "address": control.address, "align": "right",
             "default": "", "expand": True}  # fmt: skip
    return _named(f"{page.title} reading {control.address}", control, value)


def _named(name: str, control: Control, *widgets: Widget) -> Widget:
    """A widget with its name on the left."""
    text = f"{control.label} ({control.unit})" if control.unit else control.label
    label = {
        "type": "text", "id": f"{name} name", "bypass": True, "default": text, "align": "left", "width": LABEL_W,
        "comments": control.doc,
    }  # fmt: skip
    return {**_panel(name, [label, *widgets]), "layout": "horizontal", "padding": 2}


def _button(control: Control, rows: Collection[str]) -> Widget:
    made: Widget = {"type": "button", "id": f"{control.address} {control.label}", "label": control.label,
                    "address": control.address, "comments": control.doc}  # fmt: skip
    if not control.args:
        return {**made, "mode": "push"}
    # Tap sends `on` behind `preArgs`, and nothing when it is let go.
    *first, last = control.args
    made |= {"mode": "tap", "on": last, "preArgs": first or ""}
    made["typeTags"] = "".join({str: "s", int: "i", float: "f"}[type(argument)] for argument in control.args)
    return {**made, "onValue": _show(control.address, json.dumps(last))} if control.address in rows else made


def _switch(control: Control) -> Widget:
    return {
        "type": "button", "id": control.address, "label": control.label, "address": control.address, "mode": "toggle",
        "typeTags": "i", "default": int(control.default), "colorTextOn": WHITE, "comments": control.doc,
    }  # fmt: skip


def _row(control: Control) -> Widget:
    return _named(f"{control.address} row", control, *_ROWS[control.kind](control))


def _slider(control: Control) -> list[Widget]:
    low, high = control.low, control.high
    span: dict[str, float] = {"min": low, "max": high}
    if control.curve == "square":  # a line from breakpoint to breakpoint, near enough for a finger
        span = {
            "min": low,
            **{f"{at}%": low + (high - low) * (at / 100) ** 2 for at in range(10, 100, 10)},
            "max": high,
        }
    decimals = 1 if high - low > 100 else 2 if high - low > 10 else 3
    fader = {**_fader(control), "range": span, "decimals": decimals, "typeTags": "f", "default": control.default}
    return [fader, _typed(control, numeric=10**-decimals, decimals=decimals, typeTags="f")]


def _number(control: Control) -> list[Widget]:
    steps = (control.high - control.low) / control.step
    typed = _typed(control, numeric=control.step, decimals=0, typeTags="i")
    if steps > MOST_STEPS:
        return [{**typed, "expand": True}]
    span = {"min": int(control.low), "max": int(control.high)}
    whole = {"range": span, "steps": int(steps) + 1, "decimals": 0, "typeTags": "i", "default": control.default}
    return [{**_fader(control), **whole}, typed]


def _fader(control: Control) -> Widget:
    return {
        "type": "fader", "id": control.address, "address": control.address, "horizontal": True, "design": "compact",
        "doubleTap": True, "expand": True,
    }  # fmt: skip


def _typed(control: Control, **more: object) -> Widget:
    return {
        "type": "input", "id": control.address, "address": control.address, "width": VALUE_W,
        "default": control.default, **more,
    }  # fmt: skip


def _toggle(control: Control) -> list[Widget]:
    return [{**_switch(control), "width": 2 * VALUE_W, "label": "on"}]


def _choice(control: Control) -> list[Widget]:
    kind = "switch" if len(control.options) <= FEW + 2 else "dropdown"
    layout = {"layout": "horizontal", "colorTextOn": WHITE} if kind == "switch" else {}
    return [{**_menu(control), "type": kind, **layout}]


def _list(control: Control) -> list[Widget]:
    menu = {**_menu(control), "type": "dropdown"}
    if not control.typed:
        return [menu]
    # The box shows and takes any name, the menu offers what is known. They can't share an id: for a name that it does
    # not know the menu has no value, and would take it from the box too. Its script is then given 0.
    name = {**_typed(control, typeTags="s"), "width": 2 * VALUE_W}
    menu |= {
        "id": f"{control.address} menu",
        "onValue": f"if (typeof value == 'string') {_show(control.address, 'value')}",
    }
    return [menu, {**name, "onValue": _show(f"{control.address} menu", "value")}]


def _show(widget: str, value: str) -> str:
    """Script: let that widget show a value and send nothing. Nobody is told by the bridge of their own changes."""
    return f"set({json.dumps(widget)}, {value}, {{send: false, sync: false, script: false}})"


def _menu(control: Control) -> Widget:
    tag = "i" if isinstance(control.default, int) else "s"
    return {
        "id": control.address, "address": control.address, "values": list(control.options), "typeTags": tag,
        "decimals": 0, "default": control.default, "expand": True,
    }  # fmt: skip


def _text(control: Control) -> list[Widget]:
    return [{**_typed(control, typeTags="s"), "expand": True, "align": "left"}]


_ROWS: dict[str, Callable[[Control], list[Widget]]] = {
    "slider": _slider, "switch": _toggle, "choice": _choice, "number": _number, "list": _list, "text": _text,
}  # fmt: skip
