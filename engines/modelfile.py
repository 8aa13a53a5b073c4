"""models.toml: its form, read strictly, and the table that `models add` writes into the user's own.

An unknown key, a wrong type or a value out of range is a ModelError that names the file and the key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from engines import paths
from engines.errors import ModelError
from engines.modelrows import NO_CONTROLNET, AdapterRow, ControlRow, Download, HintRow, LoraRow, Row, is_id
from engines.tomltext import quoted

MAX_FILE_BYTES = 1 << 20

T = TypeVar("T")


class Tables(NamedTuple):
    """What a models.toml lists, each by its id."""

    downloads: dict[str, Download]
    models: dict[str, Row]
    controlnets: dict[str, ControlRow]
    loras: dict[str, LoraRow]
    hintnets: dict[str, HintRow]
    ipadapters: dict[str, AdapterRow]


_TABLES = ("models", "downloads", "controlnets", "loras", "hintnets", "ipadapters")
_ROWS: Mapping[str, type[msgspec.Struct]] = {
    "models": Row, "loras": LoraRow, "hintnets": HintRow, "ipadapters": AdapterRow,
}  # fmt: skip
"""What `add` writes."""


def shipped_file() -> Path:
    return paths.data("configs") / "models.toml"


def user_file() -> Path:
    """The user's own models.toml, which need not exist."""
    return paths.home() / "models.toml"


def read(path: Path) -> Tables:
    """What a file lists. Raises ModelError naming the file and the key."""
    tables = _parse(path, _text(path))

    def rows(kind: str, struct: type[T]) -> dict[str, T]:
        return {name: _convert(path, kind, name, table, struct) for name, table in tables[kind].items()}

    found = Tables(
        {name: msgspec.structs.replace(row, id=name) for name, row in rows("downloads", Download).items()},
        rows("models", Row),
        rows("controlnets", ControlRow),
        rows("loras", LoraRow),
        rows("hintnets", HintRow),
        rows("ipadapters", AdapterRow),
    )
    for kind in ("controlnets", "loras", "ipadapters"):
        if NO_CONTROLNET in tables[kind]:
            raise ModelError(f"{path}: {kind}.{NO_CONTROLNET}: the id is taken: it stands for none")
    _check(path, found)
    return found


def _check(path: Path, found: Tables) -> None:
    """What no single value shows: which keys go together, and whose paths may lead where."""
    for kind, row_of in (("models", found.models), ("controlnets", found.controlnets), ("hintnets", found.hintnets)):
        for name, row in row_of.items():
            _check_folder(path, f"{kind}.{name}", row.folder)
    for name, model in found.models.items():
        _check_loras(path, name, model)
    for name, lora in found.loras.items():
        _check_lora(path, name, lora)
    for name, adapter in found.ipadapters.items():
        _check_adapter(path, name, adapter)


Value = str | int | float


def add(
    model_id: str,
    values: Mapping[str, Value],
    loras: Sequence[Mapping[str, Value]] = (),
    kind: Literal["models", "loras", "hintnets", "ipadapters"] = "models",
) -> None:
    """Write `[<kind>.<model_id>]` into the user's file, in place of one of that name; all else stays as it was."""
    path = user_file()
    before = _text(path) if path.exists() else ""
    lines = [f"{key} = {quoted(value)}" for key, value in values.items()]
    if loras:
        tables = ["{ " + ", ".join(f"{key} = {quoted(value)}" for key, value in lora.items()) + " }" for lora in loras]
        lines.append(f"loras = [{', '.join(tables)}]")
    block = "\n".join([f"[{kind}.{model_id}]", *lines, ""])
    rest = _without(before, kind, model_id)
    after = f"{rest.rstrip()}\n\n{block}" if rest.strip() else block
    kept, now = _parse(path, before)[kind], _parse(path, after)[kind]
    if {**kept, model_id: now.get(model_id)} != now:
        raise ModelError(f"{path}: {kind}.{model_id} is written in a way we can't replace: change it by hand")
    _convert(path, kind, model_id, now[model_id], _ROWS[kind])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(after, "utf-8")
    os.replace(part, path)


def _without(text: str, kind: str, model_id: str) -> str:
    """The text without the block that begins with `[<kind>.<model_id>]` and ends before the next table."""
    block = rf"(?ms)^[ \t]*\[[ \t]*{kind}[ \t]*\.[ \t]*{re.escape(model_id)}[ \t]*\].*?(?=^[ \t]*\[|\Z)"
    return re.sub(block, "", text, count=1)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ModelError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        return data.decode("utf-8")
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: is not UTF-8") from error


def _parse(path: Path, text: str) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from error
    for key, table in tables.items():
        if key not in _TABLES:
            raise ModelError(f"{path}: unknown key {key!a} (known: {', '.join(_TABLES)})")
        if not isinstance(table, dict):
            raise ModelError(f"{path}: {key} takes tables such as [{key}.my-id]")
    return {name: {} for name in _TABLES} | tables


def _convert(path: Path, kind: str, name: str, table: object, struct: type[T]) -> T:
    where = f"{kind}.{name if is_id(name) else ascii(name)}"
    if not is_id(name):
        raise ModelError(f"{path}: {where}: an id is 1 to 64 of a-z 0-9 _ -, starts with a-z or 0-9, is no device name")
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        text, _, place = str(error).replace("Object contains unknown field", "unknown key").partition(" - at `$")
        raise ModelError(f"{path}: {where}{place.rstrip('`')}: {text}") from error


def _check_folder(path: Path, key: str, folder: str) -> None:
    shipped = path == shipped_file()
    if folder and Path(folder).is_absolute() == shipped:
        raise ModelError(f"{path}: {key}.folder: takes {'a relative' if shipped else 'an absolute'} path")


def _check_lora(path: Path, name: str, lora: LoraRow) -> None:
    if bool(lora.download) != bool(lora.file) or (lora.path and lora.download):
        raise ModelError(f"{path}: loras.{name}: takes download and file, or path")
    if lora.path and (path == shipped_file() or not Path(lora.path).is_absolute()):
        raise ModelError(f"{path}: loras.{name}.path: takes an absolute path, in your own models.toml")


def _check_adapter(path: Path, name: str, row: AdapterRow) -> None:
    shipped, where = path == shipped_file(), f"{path}: ipadapters.{name}"
    if bool(row.path) == bool(row.download and row.file):
        raise ModelError(f"{where}: takes download and file, or path")
    if bool(row.encoder_path) == bool(row.encoder):
        raise ModelError(f"{where}: takes encoder, the id of a download, or encoder_path")
    for key, given in (("path", row.path), ("encoder_path", row.encoder_path)):
        if given and (shipped or not Path(given).is_absolute()):
            raise ModelError(f"{where}.{key}: takes an absolute path, in your own models.toml")


def _check_loras(path: Path, name: str, row: Row) -> None:
    shipped = path == shipped_file()
    for lora in row.loras:
        if bool(lora.path) == bool(lora.download and lora.file):
            raise ModelError(f"{path}: models.{name}.loras: takes download and file, or path")
        if lora.path and (shipped or not Path(lora.path).is_absolute()):
            raise ModelError(f"{path}: models.{name}.loras.path: takes an absolute path, in your own models.toml")
