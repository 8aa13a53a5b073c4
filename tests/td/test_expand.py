"""The expanded form of a .tox: bytes as TouchDesigner has them, and a reader that takes nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli import main
from bridge.tox import collapse, component, expand
from bridge.tox.expand import ExpandError, Node


def test_text_and_table_have_touchdesigners_bytes() -> None:
    head = b"\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1"
    assert expand.text_file("hi\n") == b"2\n*" + head + b"\0\0\0\2\0\0\0\3hi\n"
    assert expand.text_file("") == b"2\n*\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1"
    table = expand.table_file([["a", "bc"], ["", "é"], ["1", "2"]])
    assert table[:19] == b"1\n*\0\0\0\1\0\0\0\3\0\0\0\2\0\0\0\0", "rows before columns"
    assert table[19:] == b"\0\0\0\2\0\0\0\1a\0\0\0\2\0\0\0\2bc\0\0\0\2\0\0\0\0" + (
        b"\0\0\0\2\0\0\0\2\xc3\xa9\0\0\0\2\0\0\0\x011\0\0\0\2\0\0\0\x012"
    )
    with pytest.raises(ExpandError, match="differ"):
        expand.table_file([["a"], ["b", "c"]])


def test_a_nodes_file_has_its_rules() -> None:
    node = Node("scriptTOP", "receive", (66, -83, 128, 66), ["in1", "in2"], dock="x1", viewer=True)
    assert expand.n_file(node) == (
        b"TOP:script\ntile 66 -83 128 66\nflags =  viewer 1 parlanguage 0\ninputs\n{\n0 \tin1\n1 \tin2\n}\n"
        b"dock x1\ncolor 0.55 0.55 0.55 \nend\n"
    )
    assert expand.token("parameterexecuteDAT") == "DAT:parexec"
    assert expand.token("baseCOMP") == "COMP:base"
    for wrong in ("scripttop", "TOP", "script TOP"):
        with pytest.raises(ExpandError):
            expand.token(wrong)


def test_parameters_are_quoted_where_they_must_be() -> None:
    node = Node("textDAT", "t", parameters={"file": "a b.mp4", "op": "..", "empty": "", "say": 'a "b"'})
    node.expressions["rotate"] = "absTime.seconds * 10"
    assert expand.parm_file(node) == (
        b'?\nfile 0 "a b.mp4"\nop 0 ..\nempty 0 ""\nsay 0 "a \\"b\\""\nrotate 17 "" "absTime.seconds * 10"\n?\n'
    )
    assert expand.parm_file(Node("textDAT", "t")) is None
    for wrong in ("two\nlines", "back\\slash", "nul\0"):
        with pytest.raises(ExpandError):
            expand.quoted(wrong)


def test_public_lines_are_read() -> None:
    """Lines that public expanded files have, in forms that we do not write ourselves."""
    data = (
        b'?\nrotate 17 0 "absTime.seconds * 10"\nfile 48 "" f\'scripts/{me.name}.py\'\ncallbacks 0 script1_callbacks\n'
        b"pars 0 value0\nRate 64 12\nenableexternaltox 0 off\nb 512 1 me.par.x\n?\n"
    )
    constants, expressions = collapse.parse_parm(data)
    assert constants["callbacks"] == "script1_callbacks"
    assert constants["enableexternaltox"] == "off"
    assert expressions == {"rotate": "absTime.seconds * 10"}


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=5))
def test_tables_come_back(rows: list[list[str]]) -> None:
    assert collapse.parse_table(expand.table_file(rows)) == rows


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
        st.text(st.characters(codec="ascii", exclude_characters="\\\r\n\0")),
    )
)
def test_parameters_come_back(values: dict[str, str]) -> None:
    data = expand.parm_file(Node("textDAT", "t", parameters=values))
    assert (collapse.parse_parm(data)[0] if data else {}) == values


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
NUMBERS = st.integers(-9999, 9999)


@given(
    st.builds(
        Node,
        st.sampled_from(["baseCOMP", "textDAT", "scriptTOP", "parameterexecuteDAT"]),
        NAMES,
        st.tuples(NUMBERS, NUMBERS, st.integers(1, 999), st.integers(1, 999)),
        st.lists(NAMES, max_size=4),
        dock=st.just("") | NAMES,
        viewer=st.booleans(),
    )
)
def test_nodes_come_back(node: Node) -> None:
    data = expand.n_file(node)
    assert collapse.parse_n(data, node.name) == node
    lines = data.decode().split("\n")
    assert (lines[-2:], lines[1].startswith("v ")) == (["end", ""], node.kind == "baseCOMP")


def test_the_component_comes_back_whole(tmp_path: Path) -> None:
    toc = expand.write(component.tree(), tmp_path / "livelatent.tox")
    lines = toc.read_bytes().decode().split("\n")
    assert lines[:4] == ["# 4 0 0 0 1", ".build", "livelatent.n", "livelatent.parm"]
    folder = tmp_path / "livelatent.tox.dir"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(lines[1:-1])
    assert not [p for p in folder.rglob("*.n") if b"\r" in p.read_bytes()]
    wanted = component.tree()
    wanted.children.sort(key=lambda child: (len(child.name), child.name))
    assert collapse.read(toc) == wanted
    again = expand.write(component.tree(), tmp_path / "livelatent.tox")
    assert again.read_bytes() == toc.read_bytes()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("livelatent/info.text", b"2\n*"),
        ("livelatent/oscin.parm", b'?\nactive 0 "off\n?\n'),
        ("livelatent/oscin.n", b"DAT:oscin\nwhat is this\nend\n"),
        ("livelatent.n", b"COMP:base\r\nend\r\n"),
    ],
)
def test_what_is_broken_is_refused(tmp_path: Path, name: str, change: bytes) -> None:
    toc = expand.write(component.tree(), tmp_path / "livelatent.tox")
    (tmp_path / "livelatent.tox.dir" / name).write_bytes(change)
    with pytest.raises(ExpandError):
        collapse.read(toc)


def program(folder: Path, body: str) -> None:
    tool = folder / "toecollapse"
    tool.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_build_uses_touchdesigners_tool_and_says_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOUCHDESIGNER", str(tmp_path))
    program(tmp_path, 'cp "$1" "${1%.toc}"')
    assert main(["td", "build", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/livelatent.tox").is_file()
    assert "livelatent.tox" in capsys.readouterr().out
    program(tmp_path, "echo the licence is missing; exit 3")
    assert main(["td", "build", "--out", str(tmp_path / "out")]) == 2
    assert "the licence is missing" in capsys.readouterr().err


def test_build_without_the_tool_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collapse, "tool", lambda: None)
    assert main(["td", "build", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Textport" in said
    assert "build_in_td.py" in said


def test_install_leaves_all_that_the_component_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import subprocess

    monkeypatch.setenv("LIVELATENT_HOME", str(tmp_path))
    assert main(["td", "install", "--no-packages"]) == 0
    (tmp_path / "td/component/ll_old.py").write_text("", "utf-8")
    assert main(["td", "install", "--no-packages"]) == 0
    assert not (tmp_path / "td/component/ll_old.py").exists()
    note = json.loads((tmp_path / "td/command.json").read_text("utf-8"))
    done = subprocess.run(
        [*note["argv"], "--version"], cwd=note["cwd"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("livelatent ")
    assert collapse.read(tmp_path / "td/livelatent.tox.toc").name == "livelatent"
    assert str(tmp_path / "td" / "build_in_td.py") in capsys.readouterr().out
