"""docs/wire.md says what the code does."""

import re
from pathlib import Path

import msgspec

from bridge import ring_layout, wire
from bridge.ring_layout import BLOB_AT, PIXELS_AT, Geometry, SlotHeader, Word

TEXT = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")


def rows(heading):
    section = TEXT.split(f"### {heading}\n")[1].split("\n#")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"]


def test_the_segment():
    documented = {row[2]: int(row[1]) for row in rows("The segment") if row[0].isdigit() and int(row[0]) != 56}
    words = {name.lower(): index for name, index in vars(Word).items() if name.isupper()}
    assert documented == {name: i for i, name in enumerate(Geometry._fields)} | words
    assert all(int(row[0]) == 8 * int(row[1]) for row in rows("The segment") if row[0].isdigit())
    assert ring_layout.MAGIC.to_bytes(8, "little") == b"LL-RING\n"
    assert "`LL-RING\\n`" in TEXT
    assert f"at most {ring_layout.DEFAULT_CAPACITY}" in TEXT


def test_a_slot():
    fields = [(int(row[0]), row[1]) for row in rows("A slot") if row[0].isdigit()]
    assert fields == [
        (0, "lock"),
        *((8 + 8 * i, name) for i, name in enumerate(SlotHeader._fields)),
        (BLOB_AT, "the blob"),
    ]
    assert f"we use {PIXELS_AT}" in TEXT


def test_the_header_of_a_message():
    keys = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows("A message") if row[0].startswith("`")))
    assert set(keys) == {field.name for field in msgspec.structs.fields(wire.Header)}
    assert f"at most {wire.MAX_HEADER}" in TEXT


def test_every_example_is_linked():
    folder = Path(__file__).parents[2] / "docs" / "examples"
    assert set(re.findall(r"\(examples/(\w+\.py)\)", TEXT)) == {path.name for path in folder.glob("*.py")}
