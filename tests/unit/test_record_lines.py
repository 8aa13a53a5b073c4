"""The lines beside a recording: compact, and each can be reconstructed, whatever happened to the file."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from support.records import SPEC, header, stamps

from bridge.errors import LiveLatentError, SinkError
from bridge.record.lines import FILE, KEY, Entry, Line, LineReader, LineWriter
from pipelines.acting import Acting
from pipelines.coming import Coming
from pipelines.params import Params
from pipelines.promptlang.timeline import Timeline

LINE = Line(n=0, t=0.0, seq=0, version=1, epoch=1, stamps=stamps(0))


def moved(n: int) -> Params:
    """Parameters of which some move in every frame, and one in few."""
    return Params(version=n + 1, strength=0.1 + n / 3000, seed=n // 100, live={"beat": n / 7})


def write(folder: Path, count: int) -> list[tuple[Params, Acting]]:
    lines, out = LineWriter(folder, header()), []
    for n in range(count):
        params, acting = moved(n), Acting(engine="fake", fade=min(1.0, n / 10))
        lines.add(msgspec.structs.replace(LINE, n=n, version=n + 1, seq=2 * n), params, acting, SPEC)
        out.append((params, acting))
    lines.close()
    return out


def read(folder: Path) -> tuple[list[Entry], LineReader]:
    reader = LineReader(folder / FILE)
    return list(reader), reader


def test_every_line_is_reconstructed_exactly(tmp_path: Path) -> None:
    said = write(tmp_path, 2 * KEY + 5)
    entries, reader = read(tmp_path)
    assert [(entry.params, entry.acting) for entry in entries] == said
    assert [entry.line.seq for entry in entries] == [2 * n for n in range(2 * KEY + 5)]
    assert all(entry.spec == SPEC for entry in entries)
    assert (reader.broken, reader.unknown) == (0, set())


def test_a_line_says_only_what_is_new_and_some_say_everything(tmp_path: Path) -> None:
    write(tmp_path, KEY + 2)
    first, second, *_, key, last = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()[1:]]
    assert set(second["set"]) == {"strength", "live"}
    assert set(first["set"]) == set(key["set"]) == set(Params.__struct_fields__) - {"version"}
    assert (key["key"], last.get("key")) == (True, None)
    assert len((tmp_path / FILE).read_bytes()) < 400 * KEY


def test_what_is_no_row_of_the_table_travels_too(tmp_path: Path) -> None:
    params = Params(
        prompt_line=Timeline.start(1 / 3, 1.5, 12.0),
        coming=Coming(("a", "b"), ("x",), ("y",)),
        take=3,
        control2_weight=1 / 3,
        prompt='say "hi"\n\u4e2d',
    )
    lines = LineWriter(tmp_path, header())
    lines.add(LINE, params, Acting(controlnets={2: "none"}, waiting=(1,), absent=("ink",)), SPEC)
    lines.close()
    ((_, got, acting, _),), _ = read(tmp_path)
    assert got == msgspec.structs.replace(params, version=1)
    assert (acting.controlnets, acting.waiting, acting.absent) == ({2: "none"}, (1,), ("ink",))


@pytest.mark.parametrize("cut", [2, 40, 300])
def test_a_file_cut_short_gives_all_whole_lines(tmp_path: Path, cut: int) -> None:
    said = write(tmp_path, 20)
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-cut])
    entries, reader = read(tmp_path)
    assert 0 < len(entries) < 20
    assert [entry.params for entry in entries] == [params for params, _ in said[: len(entries)]]
    assert reader.broken == 1


def test_a_broken_line_costs_those_up_to_the_next_that_says_everything(tmp_path: Path) -> None:
    said = write(tmp_path, KEY + 3)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    lines[11] = lines[11][:50] + b"\xff\n"
    (tmp_path / FILE).write_bytes(b"".join(lines))
    entries, reader = read(tmp_path)
    assert [entry.params.version for entry in entries] == [*range(1, 11), *range(KEY + 1, KEY + 4)]
    assert entries[-1].params == said[-1][0]
    assert reader.broken == KEY - 10


def test_rows_that_this_version_does_not_know_are_named(tmp_path: Path) -> None:
    write(tmp_path, 2)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace('"set":{', '"set":{"sparkle":1.0,', 1))
    entries, reader = read(tmp_path)
    assert (len(entries), reader.unknown) == (2, {"sparkle"})


@pytest.mark.parametrize(
    "text", [b"", b"{}\n", b"not json\n", b'{"recording":99,"livelatent":"9","began":"","picture":""}\n']
)
def test_what_is_no_recording_is_refused_with_a_sentence(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(LiveLatentError, match=r"frames\.jsonl"):
        LineReader(tmp_path / FILE)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(SinkError, match="can't be written"):
        LineWriter(tmp_path, header())
