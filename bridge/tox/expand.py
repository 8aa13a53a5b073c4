"""The expanded form of a .tox, a folder `x.tox.dir` with `x.tox.toc` beside it, written as TouchDesigner writes it.

TouchDesigner's own toecollapse packs it. The rules are those that public descriptions and expanded files agree on
(rootnotez/td-snapshot, grigabyte/td-atlas, TrueFiasco/TD_Builder_alpha): line feeds alone, no byte order mark, one file
per aspect of a node, and only files that the table of contents names are packed. bridge/tox/collapse.py reads it back.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import LiveLatentError

TOC = "# 4 0 0 0 1"
BUILD = "version 099\nbuild 2025.32460\n"
TOKENS = {"parameterexecute": "parexec"}
"""Types whose short name in files is not that of the Python class; 71 exist, we use one."""
GREY = "0.55 0.55 0.55"
CONSTANT, EXPRESSION = 0, 17


class ExpandError(LiveLatentError):
    """A name or a value that the expanded form has no way to hold, or a file that breaks its rules."""


@dataclass(slots=True)
class Node:
    """One operator. `kind` is the Python class (`textDAT`); `expressions` are parameters in expression mode."""

    kind: str
    name: str
    tile: tuple[int, int, int, int] = (0, 0, 130, 90)
    """x, y, width, height; y grows upward."""
    inputs: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    expressions: dict[str, str] = field(default_factory=dict)
    dock: str = ""
    viewer: bool = False
    text: str | None = None
    table: list[list[str]] | None = None
    children: list[Node] = field(default_factory=list)


def token(kind: str) -> str:
    """`textDAT` → `DAT:text`. ExpandError for what is no operator class."""
    match = re.fullmatch(r"([a-z0-9]+)(COMP|TOP|CHOP|SOP|DAT|MAT)", kind)
    if match is None:
        raise ExpandError(f"{kind!r} is no operator class of TouchDesigner")
    return f"{match[2]}:{TOKENS.get(match[1], match[1])}"


def n_file(node: Node) -> bytes:
    """`.n`: class, place, flags, wires, dock, colour."""
    x, y, width, height = node.tile
    lines = [token(node.kind)]
    if node.kind.endswith("COMP"):
        lines.append("v 0 0 1")
    lines += [f"tile {x} {y} {width} {height}", f"flags =  {'viewer 1 ' if node.viewer else ''}parlanguage 0"]
    if node.inputs:
        lines += ["inputs", "{", *(f"{i} \t{_name(name)}" for i, name in enumerate(node.inputs)), "}"]
    if node.dock:
        lines.append(f"dock {_name(node.dock)}")
    lines += [f"color {GREY} ", "end"]
    return _lines(lines)


def parm_file(node: Node) -> bytes | None:
    """`.parm`: parameters that are not at their defaults; None if all are."""
    rows = [f"{_word(name)} {CONSTANT} {quoted(value)}" for name, value in node.parameters.items()]
    rows += [f'{_word(name)} {EXPRESSION} "" {quoted(text)}' for name, text in node.expressions.items()]
    return _lines(["?", *rows, "?"]) if rows else None


def text_file(text: str) -> bytes:
    """`.text`: a table of one cell; one that was never touched has none."""
    if not text:
        return b"2\n*" + struct.pack(">4I", 1, 0, 0, 1)
    return b"2\n*" + struct.pack(">4I", 1, 1, 1, 1) + _cell(text)


def table_file(rows: Sequence[Sequence[str]]) -> bytes:
    """`.table`: rows of cells. ExpandError when they differ in length."""
    columns = len(rows[0]) if rows else 0
    if any(len(row) != columns for row in rows):
        raise ExpandError("the rows of a table differ in length")
    return b"1\n*" + struct.pack(">4I", 1, len(rows), columns, 0) + b"".join(_cell(c) for row in rows for c in row)


def files(root: Node) -> Iterable[tuple[str, bytes]]:
    """Name under the folder and contents, in the order of the table of contents."""
    yield ".build", BUILD.encode()
    yield from _node_files(root, "")


def _node_files(node: Node, folder: str) -> Iterable[tuple[str, bytes]]:
    stem = folder + _name(node.name)
    yield f"{stem}.n", n_file(node)
    parm = parm_file(node)
    if parm is not None:
        yield f"{stem}.parm", parm
    if node.table is not None:
        yield f"{stem}.table", table_file(node.table)
    elif node.text is not None:
        yield f"{stem}.text", text_file(node.text)
    for child in sorted(node.children, key=lambda child: (len(child.name), child.name)):
        yield from _node_files(child, stem + "/")


def write(root: Node, tox: Path) -> Path:
    """Write `<tox>.dir` and `<tox>.toc`, replacing older ones; returns the latter. OSError when it can't."""
    folder, toc = tox.with_name(tox.name + ".dir"), tox.with_name(tox.name + ".toc")
    if folder.exists():
        shutil.rmtree(folder)
    made: Mapping[str, bytes] = dict(files(root))
    for name, data in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    toc.write_bytes(_lines([TOC, *made]))
    return toc


def quoted(value: str) -> str:
    """A word of a .parm line: in double quotes where it is empty or has spaces or quotes. ExpandError for line ends."""
    if re.search(r"[\r\n\0]", value):
        raise ExpandError(f"a parameter's value can't have line ends: {value!r}")
    if value and not re.search(r'[\s"\\]', value):
        return value
    if "\\" in value:
        raise ExpandError(f"how a backslash is written is not known: {value!r}")
    return '"' + value.replace('"', '\\"') + '"'


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ExpandError(f"{name!r} is no name for an operator")
    return name


def _word(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        raise ExpandError(f"{name!r} is no name for a parameter")
    return name


def _cell(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">II", 2, len(data)) + data


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()
