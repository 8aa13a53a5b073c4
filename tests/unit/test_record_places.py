"""Names from strangers never become paths, and nothing is overwritten."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import SinkError
from bridge.record import places

NOW = datetime(2026, 3, 1, 20, 15, 9)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("friday", "friday"),
        ("Friday night 2", "Friday-night-2"),
        ("../../etc/passwd", "etc_passwd"),
        ("/tmp/x", "tmp_x"),
        ("C:\\Windows", "C__Windows"),
        ("a\x00b\nc", "a_b_c"),
        ("..", ""),
        ("~", ""),
        ("größe", "größe"),
        ("x" * 100, "x" * 40),
    ],
)
def test_a_name_keeps_what_a_file_may_be_called(name: str, kept: str) -> None:
    assert places.label(name) == kept


@given(st.text(max_size=200))
def test_no_name_leaves_its_folder(name: str) -> None:
    path = Path("/recordings") / f"x_{places.label(name)}"
    assert path.resolve().parent == Path("/recordings")
    assert len(path.name.encode()) <= 255


def test_folders_are_named_by_date_and_never_the_same(tmp_path: Path) -> None:
    made = [places.new_folder(tmp_path / "recordings", "my set", NOW) for _ in range(3)]
    assert [path.name for path in made] == [
        "2026-03-01_20-15-09_my-set",
        "2026-03-01_20-15-09_my-set_2",
        "2026-03-01_20-15-09_my-set_3",
    ]
    assert all(path.is_dir() for path in made)


def test_files_are_never_written_over(tmp_path: Path) -> None:
    first = places.new_file(tmp_path, "", ".png", b"one", NOW)
    second = places.new_file(tmp_path, "", ".png", b"two", NOW)
    assert (first.name, first.read_bytes()) == ("2026-03-01_20-15-09.png", b"one")
    assert (second.name, second.read_bytes()) == ("2026-03-01_20-15-09_2.png", b"two")
    assert not places.write_new(first, b"three")
    assert first.read_bytes() == b"one"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for attempt in (
        lambda: places.new_folder(tmp_path / "file", "x"),
        lambda: places.new_file(tmp_path / "file", "x", ".png", b""),
    ):
        with pytest.raises(SinkError, match="can't be"):
            attempt()


def test_the_configured_folder_goes_before_our_own(tmp_path: Path) -> None:
    assert places.under(str(tmp_path), "stills") == tmp_path / "stills"
    assert places.under("", "stills").parent.name.startswith("home")
