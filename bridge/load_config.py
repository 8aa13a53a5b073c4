"""From TOML files and flags to one Config. Every complaint names the file or flag, the key, and what it takes."""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_origin

import msgspec
from msgspec import inspect
from msgspec.structs import replace

from bridge.config import Config
from bridge.drivers import SINKS, SOURCES, DriverSpec, flag
from bridge.errors import ConfigError
from bridge.show.schedules import read_schedules
from bridge.words import shown, wanted
from engines.errors import ModelError
from engines.paths import data, home
from engines.registry import Registry
from pipelines.params import ParamSpec, table

MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """Some keys of a Config, nested as in TOML, and where they were written: a file or a flag."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One value with the place that wrote it last."""

    where: str
    key: str
    value: Any

    def error(self, text: str) -> ConfigError:
        return ConfigError(f"{self.where}: {self.key} {text}")


_Leaves = dict[tuple[str, ...], _Leaf]


def load_config(layers: Iterable[Layer] = ()) -> Config:
    """The defaults under all `layers`, later ones winning key by key; a list is replaced whole. Raises ConfigError."""
    leaves: _Leaves = {}
    for layer in layers:
        _flatten(Config, layer.values, layer.where, (), leaves)
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = leaf.value
    config = _open_hosts(msgspec.convert(tree, Config), leaves)
    _check_drivers(leaves)
    _check_hosts(config, leaves)
    return config


def read_file(name: str) -> Layer:
    """A TOML file by its path, or a shipped one by its bare name (`movie`: configs/movie.toml; `calm`: a look).

    Raises ConfigError.
    """
    path = _find(name)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES} bytes: not a config file")
    try:
        return Layer(str(path), tomllib.loads(raw.decode("utf-8-sig")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if path.exists() or path.suffix or path.parent != Path():
        return path
    shipped = {p.stem: p for p in data("configs").glob("*.toml") if p.stem != "models"} | looks()
    if name not in shipped:
        raise ConfigError(f"there is no config file {name!r}{near(name, shipped)}")
    return shipped[name]


def looks() -> dict[str, Path]:
    """The looks that we ship and those that the user saved, by name; the user's go before ours."""
    return {p.stem: p for folder in (data("configs"), home()) for p in sorted((folder / "looks").glob("*.toml"))}


def parts(layer: Layer) -> tuple[dict[str, Any], dict[str, str]]:
    """A look's parameters and schedules by row. Raises ConfigError, for a key that is no look's too."""
    leaves: _Leaves = {}
    _flatten(Config, layer.values, layer.where, (), leaves)
    for path in leaves:
        if path[0] not in ("params", "schedule"):
            raise ConfigError(f"{layer.where}: {'.'.join(path)} has no place in a look")
    found = {kind: {p[1]: leaf.value for p, leaf in leaves.items() if p[0] == kind} for kind in ("params", "schedule")}
    return found["params"], found["schedule"]


def near(word: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?`, or what there is when nothing is close."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else f" (there are: {', '.join(sorted(known))})"


def parse_value(name: str, text: str) -> bool | int | float | str:
    """A parameter's value as typed on a command line, before its range is checked. Raises ConfigError."""
    row = table().get(name)
    if row is None:
        raise ConfigError(f"there is no parameter {name!r}{near(name, table())}")
    try:
        return flag(text) if row.type is bool else row.type(text)
    except ValueError as error:
        wants = "0 or 1" if row.type is bool else "a whole number" if row.type is int else "a number"
        raise ConfigError(f"{name} takes {wants}, not {text!r}") from error


def _flatten(kind: Any, values: object, where: str, path: tuple[str, ...], out: _Leaves) -> None:
    """Check every value against the type of its key, and lay it into `out` under its full path."""
    leaf = _Leaf(where, ".".join(path), values)
    if path == ("params",):
        _flatten_params(leaf, out)
        return
    if path == ("schedule",):
        out.update({("schedule", n): _Leaf(where, leaf.key, t) for n, t in read_schedules(values, where).items()})
        return
    if len(path) == 1 and path[0] in _branches():
        _flatten_branch(leaf, out)
        return
    fields = _fields(kind)
    if fields is None:
        out[path] = _Leaf(where, leaf.key, _convert(kind, leaf))
        return
    if not isinstance(values, Mapping):
        raise leaf.error("is a table")
    for name, value in values.items():
        if fields and name not in fields and (path or name not in _branches()):
            raise ConfigError(f"{where}: unknown key {'.'.join((*path, name))!r}{near(name, fields)}")
        _flatten(fields.get(name, float), value, where, (*path, name), out)


def _fields(kind: Any) -> dict[str, Any] | None:
    """The keys of a table with their types, empty where keys are free (worker.fake: numbers); None for a value."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {f.encode_name: f.type for f in msgspec.structs.fields(kind)}
    return {} if get_origin(kind) is dict else None


def _flatten_params(leaf: _Leaf, out: _Leaves) -> None:
    if not isinstance(leaf.value, Mapping):
        raise leaf.error("is a table")
    for name, value in leaf.value.items():
        row = table().get(name)
        if row is None:
            raise ConfigError(f"{leaf.where}: unknown key {f'params.{name}'!r}{near(name, table())}")
        _flatten_param(row, f"params.{name}", value, leaf.where, out)


def _flatten_param(row: ParamSpec, key: str, value: object, where: str, out: _Leaves) -> None:
    try:
        out["params", row.name] = _Leaf(where, key, row.coerce(value))
    except ValueError as error:
        raise ConfigError(f"{where}: {key}{str(error).removeprefix(row.name)}") from error
    if row.ids:
        _check_id(row.ids, str(value), key, where)


@cache
def _branches() -> dict[str, dict[str, ParamSpec]]:
    """The rows with a table of their own beside [params], by its name, then by the rest of their dotted key."""
    out: dict[str, dict[str, ParamSpec]] = {}
    for row in table().values():
        branch, slash, rest = row.address.partition("/")
        if slash:
            out.setdefault(branch, {})[rest.replace("/", ".")] = row
    return out


def _flatten_branch(leaf: _Leaf, out: _Leaves) -> None:
    """[control.1]: its keys are rows of the parameter table, as their OSC addresses are."""
    rows, stack = _branches()[leaf.key], [("", leaf.value)]
    while stack:
        prefix, values = stack.pop()
        if not isinstance(values, Mapping):
            raise ConfigError(f"{leaf.where}: {leaf.key}.{prefix}".rstrip(".") + " is a table")
        for name, value in values.items():
            key = f"{prefix}{name}"
            if row := rows.get(key):
                _flatten_param(row, f"{leaf.key}.{key}", value, leaf.where, out)
            elif any(known.startswith(f"{key}.") for known in rows):
                stack.append((f"{key}.", value))
            else:
                raise ConfigError(f"{leaf.where}: unknown key {f'{leaf.key}.{key}'!r}{near(key, rows)}")


def _check_id(kind: str, name: str, key: str, where: str) -> None:
    try:
        registry = Registry.open()
        known = {
            "models": registry.ids,
            "controlnets": registry.controlnet_ids,
            "loras": registry.lora_ids,
            "ipadapters": registry.ipadapter_ids,
        }
        ids = known[kind]()
    except ModelError as error:
        raise ConfigError(str(error)) from error
    if name not in ids:
        raise ConfigError(f"{where}: {key}: there is no {kind.removesuffix('s')} {name!r}{near(name, ids)}")


def _convert(kind: Any, leaf: _Leaf) -> Any:
    try:
        return msgspec.convert(leaf.value, kind)
    except msgspec.ValidationError as error:
        raise leaf.error(f"takes {wanted(inspect.type_info(kind))}, not {shown(leaf.value)}") from error


def _check_drivers(leaves: _Leaves) -> None:
    source, sinks = leaves.get(("source",)), leaves.get(("sinks",))
    hints = leaves.get(("hint_sinks",))
    own = [leaf for path, leaf in leaves.items() if path[0] in ("control_sources", "image_source") and leaf.value]
    for leaf, texts, known in (
        (source, (source.value,) if source else (), SOURCES),
        (sinks, sinks.value if sinks else (), SINKS),
        (hints, hints.value if hints else (), SINKS),
        *((leaf, (leaf.value,), SOURCES) for leaf in own),
    ):
        for text in texts:
            name = DriverSpec.parse(text).name
            if leaf is not None and name not in known:
                raise leaf.error(f"{name!r} is unknown{near(name, known)}")


def _check_hosts(config: Config, leaves: _Leaves) -> None:
    """Nothing binds beyond loopback unless `lan` says so and names who may talk to us."""
    for network in config.lan.allow:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise leaves["lan", "allow"].error(f"takes networks such as 192.168.1.0/24: {error}") from error
    if config.lan.enabled and not config.lan.allow:
        raise leaves["lan", "enabled"].error(
            "needs the networks that may send OSC: --allow 192.168.1.0/24, or lan.allow"
        )
    for section, host in (("osc", config.osc.host), ("web", config.web.host)):
        if not config.lan.enabled and not _loopback(host):
            raise leaves[section, "host"].error(
                f"{host!r} is beyond this machine: that takes --lan, or lan.enabled = true"
            )


def _open_hosts(config: Config, leaves: _Leaves) -> Config:
    """With `lan`, a host that nobody named is every interface: that is what people mean by it."""
    if not config.lan.enabled:
        return config
    hosts: dict[str, Any] = {}
    for section in ("osc", "web"):
        if (section, "host") not in leaves:
            hosts[section] = replace(getattr(config, section), host="0.0.0.0")  # noqa: S104
    return replace(config, **hosts)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
