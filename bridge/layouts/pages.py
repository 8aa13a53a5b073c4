"""What a control surface shows: pages of controls, made from the program's own tables. No format of any app here.

One page for playing a show, one for each group of the parameter table, one for the figures. TouchOSC's layout and
Open Stage Control's session are both drawn from these pages, so that neither knows a parameter by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from bridge.dispatch import COMMANDS
from bridge.show.act_list import ACTS
from bridge.telemetry import READINGS, SHOW, Reading
from pipelines.params import ParamSpec, table
from pipelines.paramspec import Curve
from pipelines.pocket.styles import STYLES

Kind = Literal["slider", "switch", "choice", "list", "number", "text", "reading", "button"]
"""slider: a float · switch: 0 or 1 · choice: a few, side by side · list: more of them · number: a whole one by steps ·
text: shown, and typed where the app has a keyboard · reading: shown alone · button: sends `args` when pressed."""

Value = bool | int | float | str
FEW = 6
"""Choices that fit side by side."""
FEW_LETTERS = 44
"""All of them together, in that place."""
CUES = 8
"""Buttons that fire a cue by its number."""
BUTTONS_A_ROW = 10
MOVES = (0.0, 4.0)
"""Seconds in which a look's two buttons go there."""
PLAY = ("/state", "/fps", "/latency/p50", "/beat", "/look/now", "/cue/now", "/cue/next", "/cue/in")
"""Figures that the first page shows; the last one has all."""
MOST = {"look": 5, "show": 4}
"""Buttons of looks and cue lists that a page has room for."""


@dataclass(frozen=True, slots=True)
class Control:
    kind: Kind
    address: str
    label: str
    doc: str = ""
    default: Value = ""
    low: float = 0.0
    high: float = 1.0
    step: int = 1
    """Of a number: its values are multiples of it."""
    unit: str = ""
    curve: Curve = "linear"
    options: tuple[str | int, ...] = ()
    args: tuple[str | int | float, ...] = ()
    """What a button sends; none: the press itself, 1, and 0 at its release."""
    typed: bool = False
    """Of a list: values beyond `options` are taken too (ids of the user's own)."""


@dataclass(frozen=True, slots=True)
class Page:
    """From top to bottom: figures, rows of buttons, parameters."""

    title: str
    readings: tuple[Control, ...] = ()
    buttons: tuple[tuple[Control, ...], ...] = ()
    rows: tuple[Control, ...] = ()

    @property
    def controls(self) -> tuple[Control, ...]:
        return (*self.readings, *(button for row in self.buttons for button in row), *self.rows)


Known = Callable[[str], Sequence[str]]
"""The ids of a registry, `models` or `loras`."""


def pages(prefix: str, known: Known, looks: Sequence[str] = (), shows: Sequence[str] = ()) -> tuple[Page, ...]:
    """Every page, in order. `looks`, `shows`: names that get a button, as far as there is room."""
    groups = {group: list(specs) for group, specs in groupby(table().values(), key=lambda spec: spec.group)}
    out = [_play(prefix, groups.pop("show"), known, looks, shows)]
    for group, specs in groups.items():
        rows = tuple(_row(prefix, spec, known) for spec in specs)
        out.append(Page(group.capitalize(), buttons=_words(prefix) if group == "prompt" else (), rows=rows))
    return (*out, Page("Status", readings=tuple(_reading(prefix, row) for row in (*READINGS, *SHOW))))


def _play(prefix: str, specs: list[ParamSpec], known: Known, looks: Sequence[str], shows: Sequence[str]) -> Page:
    told = {row.address: row for row in (*READINGS, *SHOW)}
    commands = [
        Control("button", f"{prefix}/{name}", name.rpartition("/")[2], doc)
        for name, doc in COMMANDS.items()
        if name != "restart"  # not beside what is hit in the dark: its place is last
    ]
    main = (
        *commands,
        Control("button", f"{prefix}/downbeat", "downbeat", "A bar begins now.", args=(1,)),
        Control("switch", f"{prefix}/cue/hold", "hold", "Let no time pass for the cue list.", default=False),
    )
    cues = tuple(
        Control("button", f"{prefix}/cue/jump", f"cue {n}", "Fire this cue.", args=(n,)) for n in range(1, CUES + 1)
    )
    again = (
        # A name is text; none, which is every schedule, a button can't say.
        Control("button", f"{prefix}/schedule/release", "release schedules", ACTS["schedule/release"], args=("",)),
        Control("button", f"{prefix}/restart", "restart worker", COMMANDS["restart"]),
    )
    named = [
        *(_look(prefix, name, seconds) for name in looks[: MOST["look"]] for seconds in MOVES),
        *(
            Control("button", f"{prefix}/show/load", f"show {name}", "Put this cue list on.", args=(name,))
            for name in shows[: MOST["show"]]
        ),
    ]
    return Page(
        "Play",
        readings=tuple(_reading(prefix, told[address]) for address in PLAY),
        buttons=(main, cues, *_lines(named), again),
        rows=tuple(_row(prefix, spec, known) for spec in specs),
    )


def _look(prefix: str, name: str, seconds: float) -> Control:
    label = f"{name} in {seconds:g} s" if seconds else name
    return Control("button", f"{prefix}/look/recall", label, "Go to this look.", args=(name, seconds))


def _words(prefix: str) -> tuple[tuple[Control, ...], ...]:
    """Prompts at a touch: the styles that the built-in model knows, and any other model understands too."""
    return _lines([Control("button", f"{prefix}/prompt", word, "Paint so.", args=(word,)) for word in STYLES])


def _lines(buttons: Sequence[Control]) -> tuple[tuple[Control, ...], ...]:
    """As few rows as hold them, as even as can be."""
    count = -(-len(buttons) // BUTTONS_A_ROW)
    edges = [round(number * len(buttons) / count) for number in range(count + 1)] if count else [0]
    return tuple(tuple(buttons[start:end]) for start, end in pairwise(edges))


def _reading(prefix: str, row: Reading) -> Control:
    label = row.address[1:].replace("/", " ") + (f" ({row.unit})" if row.unit else "")
    return Control("reading", prefix + row.address, label, row.doc, default=row.type())


def _row(prefix: str, spec: ParamSpec, known: Known) -> Control:
    options: tuple[str | int, ...] = spec.choices
    if spec.ids:
        options = tuple(known(spec.ids)) or (str(spec.default),)  # none while the user's models.toml can't be read
    name = spec.address.rpartition("/")[2] if "/" in spec.address else spec.address
    if spec.group == "lora":
        name = spec.address.partition("/")[2].replace("/", " ")
    low, high = spec.low or 0.0, 1.0 if spec.high is None else spec.high
    if spec.type is int and (high - low) / spec.step < FEW + 2:
        options = tuple(range(int(low), int(high) + 1, spec.step))
    return Control(
        _kind(spec, options),
        f"{prefix}/{spec.address}",
        name.replace("_", " "),
        spec.doc,
        spec.default,
        low,
        high,
        spec.step,
        spec.unit,
        spec.curve,
        options,
        typed=bool(spec.ids),
    )


def _kind(spec: ParamSpec, options: tuple[str | int, ...]) -> Kind:
    if spec.ids:
        return "list"
    if options:
        few = len(options) <= FEW and sum(len(str(option)) for option in options) <= FEW_LETTERS
        return "choice" if few or spec.type is int else "list"
    kinds: dict[type, Kind] = {bool: "switch", int: "number", float: "slider", str: "text"}
    return kinds[spec.type]
