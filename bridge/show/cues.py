"""A cue list as people write it: configs/shows/*.toml, or the user's own folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from bridge.errors import ConfigError, ControlError
from bridge.load_config import Layer, near, parts, read_file
from bridge.ramp import RampCurve
from bridge.show.looks import Library, Look, make_room, safe_name, write
from engines import paths

MAX_CUES = 1000
MIN_WAIT_S = 0.01
"""A list that follows on in no time at all would never let go of a frame."""
HAND = "hand"
Quantise = Literal["", "beat", "bar"]
_SPAN = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(s|seconds?|b|beats?|bars?)?")


class Span(NamedTuple):
    """A length of time."""

    amount: float
    unit: Literal["s", "beat", "bar"]

    def beats(self, per_bar: int) -> float:
        return self.amount * (per_bar if self.unit == "bar" else 1)


class Cue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One step of a show."""

    name: str = ""
    look: str = ""
    """The look that it goes to; none leaves all as it is but `params` and `schedule`."""
    move: float | str = 0
    """How long that takes: seconds, or "2 beats", "1 bar"."""
    curve: RampCurve = "linear"
    wait: float | str = HAND
    """From its start to the next cue: seconds, "8 beats", "4 bars"; "hand" waits for go."""
    next: str = ""
    """Cue that comes after it, instead of the one below."""
    times: Annotated[int, Meta(ge=0, le=10000)] = 0
    """How often it goes to `next` before it goes to the one below; 0 is always."""
    quantise: Quantise = ""
    """A go by hand waits for the next beat or bar."""
    params: dict[str, Any] = {}
    """Parameters over those of the look."""
    schedule: dict[str, Any] = {}


class Show(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    name: str = ""
    title: str = ""
    loop: bool = False
    """Begin again after the last cue."""
    cue: tuple[Cue, ...] = ()


def span(value: float | str, what: str = "a time") -> Span:
    """Raises ControlError with a sentence."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 86400:
        return Span(float(value), "s")
    found = _SPAN.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise ControlError(f'{what} is seconds such as 4, or "8 beats" or "2 bars", not {str(value)[:40]!r}')
    unit = (found[2] or "s")[:3]
    return Span(float(found[1]), "bar" if unit == "bar" else "beat" if unit[0] == "b" else "s")


def files() -> dict[str, Path]:
    """The cue lists that we ship and those of the user, by name; the user's go before ours."""
    folders = (paths.data("configs"), paths.home())
    return {p.stem: p for folder in folders for p in sorted((folder / "shows").glob("*.toml"))}


def find(name: str) -> Path:
    known = files()
    if safe_name(name, "a show") not in known:
        raise ControlError(f"there is no show {name!r}{near(name, known) if known else ''}")
    return known[name]


def read_show(path: Path) -> Show:
    """Raises ConfigError that names the file and the cue."""
    layer = read_file(str(path))
    try:
        show = msgspec.convert({**layer.values, "name": path.stem}, Show)
        return checked(show)
    except (msgspec.ValidationError, ControlError) as error:
        raise ConfigError(f"{path}: {error}") from error


def checked(show: Show) -> Show:
    """The show, if its cues fit together. Raises ControlError, ConfigError."""
    if not 0 < len(show.cue) <= MAX_CUES:
        raise ControlError(f"a show has 1 to {MAX_CUES} cues ([[cue]])")
    names = [cue.name for cue in show.cue if cue.name]
    for number, cue in enumerate(show.cue, 1):
        where = f"cue {number}{f' ({cue.name})' if cue.name else ''}"
        if cue.name.isdecimal() or names.count(cue.name) > 1:
            raise ControlError(f"{where}: a cue's name is no number, and no other cue has it")
        if cue.next and cue.next not in names:
            raise ControlError(f"{where}: there is no cue {cue.next!r} to come next")
        span(cue.move, f"{where}: move")
        if cue.wait != HAND:
            wait = span(cue.wait, f"{where}: wait")
            if wait.amount < MIN_WAIT_S:
                raise ControlError(f"{where}: a wait is at least {MIN_WAIT_S:g}, or hand")
        cue_parts(cue, where)
    return show


def cue_parts(cue: Cue, where: str = "") -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """A cue's own parameters and schedules by row. Raises ConfigError."""
    flat = {"params": cue.params} if cue.params else {}
    return parts(Layer(where, {**flat, **({"schedule": cue.schedule} if cue.schedule else {})}))


def whole(cue: Cue, library: Library) -> tuple[dict[str, Any], dict[str, str]]:
    """What a cue sets by row, with its look: values and schedules. Raises ControlError, ConfigError."""
    look = library.get(cue.look) if cue.look else Look("", {}, {})
    values, schedules = cue_parts(cue)
    own = {name: text for name, text in look.schedules.items() if name not in values} | dict(schedules)
    return {n: v for n, v in {**look.values, **values}.items() if n not in own}, own


def save_show(show: Show, name: str) -> Path:
    """Write it into the user's folder. Raises ControlError."""
    path = paths.home() / "shows" / f"{safe_name(name, 'a show')}.toml"
    make_room(path, "shows")
    write(path, as_toml(show))
    return path


def as_toml(show: Show) -> str:
    tree = msgspec.to_builtins(show)
    lines = [f"{key} = {_literal(tree[key])}" for key in ("title", "loop") if key in tree]
    for cue in tree.get("cue", ()):
        lines += ["", "[[cue]]", *(f"{key} = {_literal(value)}" for key, value in cue.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_literal(str(key))} = {_literal(inner)}" for key, inner in value.items()) + " }"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
