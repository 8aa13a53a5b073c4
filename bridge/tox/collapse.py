"""Reads the expanded form of a .tox back, as strictly as it is written, and finds TouchDesigner's own tools for it."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bridge.tox.expand import CONSTANT, EXPRESSION, TOC, TOKENS, ExpandError, Node

_KINDS = {short: name for name, short in TOKENS.items()}
_BIND, _EXPR = 0x200, 0x10
MAX_CELL = 64 << 20
COLLAPSE_S = 60.0


def read(toc: Path) -> Node:
    """The component that `x.tox.toc` and `x.tox.dir` describe. ExpandError says which file is wrong, and how."""
    names = _text(toc.read_bytes(), toc.name).split("\n")
    if names[0] != TOC or names[-1] != "" or names[1:2] != [".build"]:
        raise ExpandError(f"{toc.name}: no table of contents that is known here")
    folder = toc.with_name(toc.name.removesuffix(".toc") + ".dir")
    nodes: dict[str, Node] = {}
    root: Node | None = None
    for name in names[2:-1]:
        stem, _, aspect = name.rpartition(".")
        data = (folder / name).read_bytes()
        if aspect == "n":
            parent, _, own = stem.rpartition("/")
            node = nodes[stem] = parse_n(data, own)
            if parent:
                nodes[parent].children.append(node)
            elif root is not None:
                raise ExpandError(f"{toc.name}: two components at the top")
            else:
                root = node
        elif aspect == "parm":
            nodes[stem].parameters, nodes[stem].expressions = parse_parm(data)
        elif aspect == "text":
            nodes[stem].text = parse_text(data)
        elif aspect == "table":
            nodes[stem].table = parse_table(data)
        else:
            raise ExpandError(f"{toc.name}: {name} is of a kind that is not known here")
    if root is None:
        raise ExpandError(f"{toc.name}: nothing in it")
    return root


def parse_n(data: bytes, name: str) -> Node:
    lines = iter(_text(data, name).split("\n"))
    match = re.fullmatch(r"([A-Z]+):([a-z0-9]+)", next(lines))
    if match is None:
        raise ExpandError(f"{name}.n: no class in the first line")
    node = Node(_KINDS.get(match[2], match[2]) + match[1], name)
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "end":
            return node
        if word == "tile":
            x, y, width, height = map(int, rest.split())
            node.tile = x, y, width, height
        elif word == "flags":
            node.viewer = " viewer 1 " in f"{rest} "
        elif word == "dock":
            node.dock = rest
        elif word == "inputs":
            node.inputs = _wires(lines, name)
        elif word not in ("v", "color", "view", "comment"):
            raise ExpandError(f"{name}.n: {line!r} is not known here")
    raise ExpandError(f"{name}.n: no end")


def _wires(lines: Iterator[str], name: str) -> list[str]:
    out: list[str] = []
    for line in lines:
        if line == "{":
            continue
        if line == "}":
            return out
        number, _, source = line.partition(" \t")
        if number != str(len(out)):
            raise ExpandError(f"{name}.n: input {line!r} is out of order")
        out.append(source)
    raise ExpandError(f"{name}.n: inputs without an end")


def parse_parm(data: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """(constants, expressions) by name."""
    lines = _text(data, ".parm").split("\n")
    if lines[0] != "?" or lines[-2:] != ["?", ""]:
        raise ExpandError(".parm: not between question marks")
    constants: dict[str, str] = {}
    expressions: dict[str, str] = {}
    for line in lines[1:-2]:
        words = _words(line)
        if len(words) < 3 or not words[1].isdigit():
            raise ExpandError(f".parm: {line!r} has too few words")
        flags = int(words[1])
        if len(words) != 3 + bool(flags & _EXPR) + bool(flags & _BIND):
            raise ExpandError(f".parm: {line!r} has not what its flags say")
        if flags == EXPRESSION:
            expressions[words[0]] = words[3]
        elif flags & ~(_EXPR | _BIND | 0x20) == CONSTANT:
            constants[words[0]] = words[2]
    return constants, expressions


def _words(line: str) -> list[str]:
    out, at = [], 0
    while at < len(line):
        match = re.compile(r'"((?:[^"\\]|\\")*)"(?: |$)|([^ "]\S*)(?: |$)').match(line, at)
        if match is None:
            raise ExpandError(f".parm: {line!r} has a wrong quote")
        out.append(match[1].replace('\\"', '"') if match[2] is None else match[2])
        at = match.end()
    return out


def parse_text(data: bytes) -> str:
    rows, columns, cells = _cells(data, b"2\n*", 1)
    if (rows, columns) not in ((0, 0), (1, 1)):
        raise ExpandError(f".text: {rows} rows of {columns} cells")
    return cells[0] if cells else ""


def parse_table(data: bytes) -> list[list[str]]:
    rows, columns, cells = _cells(data, b"1\n*", 0)
    return [cells[row * columns : (row + 1) * columns] for row in range(rows)]


def _cells(data: bytes, magic: bytes, last: int) -> tuple[int, int, list[str]]:
    if data[:3] != magic or len(data) < 19:
        raise ExpandError("no text or table of TouchDesigner")
    one, rows, columns, end = struct.unpack_from(">4I", data, 3)
    at, out = 19, []
    if one != 1 or end != last or rows * columns * 8 > len(data):
        raise ExpandError("a text's or table's header makes no sense")
    for _ in range(rows * columns):
        if at + 8 > len(data):
            raise ExpandError("a table ends too soon")
        two, size = struct.unpack_from(">II", data, at)
        if two != 2 or size > min(MAX_CELL, len(data) - at - 8):
            raise ExpandError("a cell's header makes no sense")
        out.append(data[at + 8 : at + 8 + size].decode())
        at += 8 + size
    if at != len(data):
        raise ExpandError("there is more behind the last cell")
    return rows, columns, out


def _text(data: bytes, name: str) -> str:
    if b"\r" in data or data.startswith(b"\xef\xbb\xbf"):
        raise ExpandError(f"{name}: line feeds alone, and no byte order mark")
    return data.decode()


def tool(name: str = "toecollapse") -> Path | None:
    """TouchDesigner's console program of this name: on the path, where TOUCHDESIGNER points, or installed."""
    places: list[Path] = []
    if os.environ.get("TOUCHDESIGNER"):
        given = Path(os.environ["TOUCHDESIGNER"])
        places += [given, given / "bin", given / "Contents" / "MacOS"]
    if sys.platform == "win32":
        programs = Path(os.environ.get("PROGRAMFILES", r"C:\Program Files")) / "Derivative"
        places += [path / "bin" for path in sorted(programs.glob("TouchDesigner*"), reverse=True)]
    elif sys.platform == "darwin":
        apps = sorted(Path("/Applications").glob("TouchDesigner*.app"), reverse=True)
        places += [app / "Contents" / "MacOS" for app in apps]
    found = [place / file for place in places for file in (name, f"{name}.exe") if (place / file).is_file()]
    on_path = shutil.which(name)
    return found[0] if found else Path(on_path) if on_path else None


def collapse(toc: Path, program: Path) -> Path:
    """Pack it with TouchDesigner's toecollapse. ExpandError, with its words, when that gives no .tox."""
    tox = toc.with_suffix("")
    before = tox.stat().st_mtime_ns if tox.exists() else 0
    try:
        done = subprocess.run(
            [program, toc.name], cwd=toc.parent, capture_output=True, text=True, timeout=COLLAPSE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExpandError(f"{program}: {error}") from error
    if done.returncode or not tox.exists() or tox.stat().st_mtime_ns == before:
        words = (done.stdout + done.stderr).strip()[-300:] or f"it ended with {done.returncode}"
        raise ExpandError(f"{program} made no {tox.name}: {words}")
    return tox
