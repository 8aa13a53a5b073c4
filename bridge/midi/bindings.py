"""Which control does what, as people write it: configs/midi/*.toml, or the folder `midi` of their own.

[[bind]]
on = "cc 21"            # what `livelatent midi listen` prints when it is moved
to = "strength"         # any address, without the prefix
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bridge.errors import ConfigError, ControlError, LiveLatentError
from bridge.load_config import near, read_file
from bridge.midi.events import Control, read_control
from bridge.midi.travel import Travel
from bridge.show.act_list import ACTS, COMMANDS
from bridge.show.cues import Quantise
from bridge.show.looks import make_room, safe_name, write
from bridge.store import MAX_RAMP_S
from engines import paths
from engines.tomltext import quoted
from pipelines.params import ParamSpec, table

MAX_BINDINGS = 500
MAX_ARGS = 8
_INPUT = re.compile(r"in/[A-Za-z_]\w{0,31}", re.ASCII)
_HEAD = re.compile(r"^((?:[ \t]*#[^\n]*\n)*)[ \t]*\[\[[ \t]*bind[ \t]*\]\]", re.MULTILINE)
"""Where a binding begins, with the comments right above it."""
_PLAIN = frozenset({*COMMANDS, *(act for act in ACTS if "<" not in act)})

Seconds = Annotated[float, Meta(ge=0, le=MAX_RAMP_S)]


class Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One control and what it does."""

    on: str
    to: str
    port: str = ""
    """Part of the port's name; empty is any."""
    range: tuple[float, float] | None = None
    """Values at its two ends; none is the whole range. The first may be the greater."""
    curve: Literal["linear", "square", "root", "ease"] = "linear"
    attack: Seconds = 0.0
    """Seconds that the value takes up to where the control is."""
    release: Seconds = 0.0
    """Seconds that it takes down."""
    takeover: Literal["pickup", "jump"] = "pickup"
    """pickup: a knob moves nothing until it has come to where the value is. jump: at once."""
    relative: Literal["", "twos", "offset", "sign"] = ""
    """An endless encoder, and how it writes steps back: 127 downwards, 63 downwards from 64, or 65 upwards."""
    step: Annotated[float, Meta(gt=0, le=1)] = 1 / 127
    """Share of the range that one step of an encoder is."""
    press: Literal["", "hold", "toggle", "set", "next"] = ""
    """A key or button: hold while it is down, toggle between the two ends, set `value` or how hard it was pressed, or
    go to the next choice. Empty is what fits the parameter."""
    value: bool | int | float | str | None = None
    """What a press sets."""
    args: list[bool | int | float | str] = []
    """What follows an act's address: a look's name and seconds."""
    quantise: Quantise = ""
    """With the next beat or bar."""


class Map(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of bindings."""

    title: str = ""
    bind: tuple[Binding, ...] = ()


def row_of(to: str) -> ParamSpec | None:
    """The parameter at this address, without prefix."""
    return next((spec for spec in table().values() if spec.address == to), None)


def travel_of(binding: Binding, spec: ParamSpec) -> Travel:
    whole = (0.0 if spec.low is None else spec.low, 1.0 if spec.high is None else spec.high)
    return Travel(spec, *(binding.range or whole), binding.curve)


def checked(binding: Binding) -> Binding:
    """The binding, if its parts fit together. Raises ControlError with a sentence."""
    control, spec = read_control(binding.on), row_of(binding.to)
    if binding.relative and control.kind not in ("cc", "nrpn"):
        raise ControlError(f"{binding.on}: an encoder is a cc or an nrpn")
    if len(binding.args) > MAX_ARGS:
        raise ControlError(f"at most {MAX_ARGS} args")
    if spec is not None:
        _check_row(binding, control, spec)
        return binding
    if binding.to not in _PLAIN and not _is_pattern(binding.to):
        known = {row.address for row in table().values()} | _PLAIN
        raise ControlError(f"nothing is at {binding.to[:60]!r}{near(binding.to[:60], known)}")
    if binding.attack or binding.release:
        raise ControlError(f'{binding.to} takes no attack or release; a schedule does: "map NAME 0 1 0.02 0.3"')
    return binding


def _is_pattern(to: str) -> bool:
    head, _, rest = to.partition("/")
    return bool(_INPUT.fullmatch(to)) or (head == "schedule" and row_of(rest) is not None)


def _check_row(binding: Binding, control: Control, spec: ParamSpec) -> None:
    ends = [spec.low if end is None else end for end in binding.range or ()]
    for value in [*ends, *([] if binding.value is None else [binding.value])]:
        try:
            spec.coerce(value)
        except ValueError as error:
            raise ControlError(str(error)) from error
    if (binding.attack or binding.release) and not spec.ramps:
        raise ControlError(f"{spec.address} changes at once and takes no attack or release")
    texts = spec.type is str and not spec.choices
    presses = is_key(control) or binding.press
    if (texts or spec.kind != "live") and (binding.value is None or binding.press not in ("", "set")):
        raise ControlError(f"{spec.address} can't be turned through: it takes a key or button with a value")
    if binding.value is not None and not presses:
        raise ControlError('a value is what a press sets: add press = "set", or take it away')
    if binding.press == "next" and not spec.choices:
        raise ControlError(f"{spec.address} has no choices to go through")


def is_key(control: Control) -> bool:
    """Whether it is pressed by nature; a controller may be a button or a knob."""
    return control.kind in ("note", "program", "start", "stop", "continue")


def wanted(to: str, args: list[bool | int | float | str]) -> Binding:
    """What is to be learnt: an address, and what follows it. Its control is not known yet. Raises ControlError."""
    spec = row_of(to)
    if spec is None:
        return checked(Binding(on="note 0", to=to, args=args))
    if len(args) > 1:
        raise ControlError(f"{to} takes one value, that a press sets")
    binding = Binding(on="note 0", to=to, value=args[0] if args else None)
    return checked(binding)


def for_control(binding: Binding, control: Control, port: str) -> Binding:
    """What was wanted, with the control that was found."""
    press: Literal["", "set"] = "set" if binding.value is not None and not is_key(control) else ""
    return msgspec.structs.replace(binding, on=str(control), port=port, press=press)


def files() -> dict[str, Path]:
    """The files that we ship and those of the user, by name; the user's go before ours."""
    folders = (paths.data("configs"), paths.home())
    return {p.stem: p for folder in folders for p in sorted((folder / "midi").glob("*.toml"))}


def own(name: object) -> Path:
    """Where the user's file of this name is, or will be. Raises ControlError."""
    return paths.home() / "midi" / f"{safe_name(name, 'a file of bindings')}.toml"


def find(name: object) -> Path:
    """The file of this name; one of the user's that is not there yet has no bindings. Raises ControlError."""
    return files().get(own(name).stem, own(name))


def read_map(path: Path) -> Map:
    """Raises ConfigError that names the file and the binding."""
    if not path.exists():
        return Map()
    layer = read_file(str(path))
    try:
        found = msgspec.convert(layer.values, Map)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    if len(found.bind) > MAX_BINDINGS:
        raise ConfigError(f"{path}: at most {MAX_BINDINGS} bindings")
    for number, binding in enumerate(found.bind, 1):
        try:
            checked(binding)
        except LiveLatentError as error:
            raise ConfigError(f"{path}: binding {number}: {error}") from error
    return found


def learnt(path: Path, name: str, binding: Binding) -> Path:
    """Write `binding` into the user's file of this name, over the one that had the same target; what people wrote
    around it stays. `path`: where the bindings are now, perhaps a file of ours. Raises ControlError, ConfigError."""
    found = read_map(path)
    target = (binding.to, binding.args, binding.value)
    same = [i for i, one in enumerate(found.bind) if (one.to, one.args, one.value) == target]
    blocks = _blocks(path, found)
    if same:
        kept = found.bind[same[0]]
        binding = checked(msgspec.structs.replace(_fitting(kept, binding), on=binding.on, port=binding.port))
        comment = match[1] if (match := _HEAD.match(blocks[same[0] + 1])) else ""
        blocks[same[0] + 1] = comment + as_toml(binding)
    elif len(found.bind) >= MAX_BINDINGS:
        raise ControlError(f"there are {MAX_BINDINGS} bindings already")
    else:
        blocks.append(as_toml(checked(binding)))
    return _save(name, blocks)


def following(binding: Binding) -> list[bool | int | float | str]:
    """What stands behind the address: an act's arguments, or the value that a press sets."""
    return binding.args if binding.value is None else [binding.value]


def forgotten(path: Path, name: str, to: str, args: Sequence[object] = ()) -> Path:
    """Take out what is bound to this address: all, or what has these arguments. Raises ControlError if nothing has."""
    found = read_map(path)
    gone = {i for i, one in enumerate(found.bind, 1) if one.to == to and (not args or following(one) == [*args])}
    if not gone:
        raise ControlError(f"nothing is bound to {to[:60]!r}")
    return _save(name, [block for i, block in enumerate(_blocks(path, found)) if i not in gone])


def _fitting(kept: Binding, fresh: Binding) -> Binding:
    """What was set for the former control, as far as it makes sense for this one."""
    if is_key(read_control(kept.on)) == is_key(read_control(fresh.on)):
        return msgspec.structs.replace(kept, relative="") if read_control(fresh.on).kind != "cc" else kept
    return msgspec.structs.replace(fresh, range=kept.range, quantise=kept.quantise)


def _save(name: str, blocks: list[str]) -> Path:
    path = own(name)
    make_room(path, "files of bindings")
    write(path, "\n".join(block.strip("\n") + "\n" for block in blocks if block.strip()))
    return path


def _blocks(path: Path, found: Map) -> list[str]:
    """The file's text: what is above the first binding, then each of them."""
    text = path.read_text("utf-8-sig") if path.exists() else ""
    starts = [match.start() for match in _HEAD.finditer(text)]
    if len(starts) == len(found.bind):
        return [text[a:b] for a, b in pairwise([0, *starts, len(text)])]
    head = f"title = {_literal(found.title)}\n" if found.title else ""
    return [head, *(as_toml(binding) for binding in found.bind)]


def as_toml(binding: Binding) -> str:
    tree: dict[str, Any] = msgspec.to_builtins(binding)
    return "[[bind]]\n" + "".join(f"{key} = {_literal(value)}\n" for key, value in tree.items())


def _literal(value: Any) -> str:
    return f"[{', '.join(map(quoted, value))}]" if isinstance(value, list) else quoted(value)
