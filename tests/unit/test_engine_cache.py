"""What engines keep on disk: whole, sealed, and never read when the seal does not hold."""

from __future__ import annotations

import os
import stat

import pytest

from engines import cache, paths
from engines.cache import EngineCache, name_of, weights_of

NOTES = {"inputs": ["x"], "guided": False}


@pytest.fixture
def kept() -> EngineCache:
    made = EngineCache("test")
    made.put("net", NOTES, b"compiled" * 100)
    return made


def test_what_was_put_comes_back(kept):
    entry = kept.get("net")
    assert entry.notes == NOTES
    assert bytes(entry.content) == b"compiled" * 100
    assert kept.has("net")
    assert kept.get("other") is None
    kept.drop("net")
    assert not kept.has("net")
    assert kept.get("net") is None


def test_content_is_mapped_where_a_page_begins(kept):
    raw = (kept.folder / "net.sealed").read_bytes()
    assert raw.index(b"compiled") % 4096 == 0
    entry = kept.get("net")
    entry.content[0] = 0
    assert (kept.folder / "net.sealed").read_bytes() == raw


@pytest.mark.parametrize("at", [0, 10, 60, 4096, -1])
def test_one_changed_byte_anywhere_and_it_is_not_read(kept, at):
    path = kept.folder / "net.sealed"
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    assert kept.get("net") is None


@pytest.mark.parametrize("length", [0, 3, 41, 4096, -1])
def test_nor_is_a_file_that_is_cut_off(kept, length):
    path = kept.folder / "net.sealed"
    path.write_bytes(path.read_bytes()[:length])
    assert kept.get("net") is None


def test_nor_one_under_another_name_or_from_another_machine(kept):
    path = kept.folder / "net.sealed"
    (kept.folder / "other.sealed").write_bytes(path.read_bytes())
    assert kept.get("other") is None
    key = paths.home() / "engines" / "key"
    key.write_bytes(bytes(cache.KEY_BYTES))
    assert kept.get("net") is None


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a user's own folder from others by other means")
def test_the_key_is_for_its_owner_alone_and_made_once(kept):
    key = paths.home() / "engines" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    EngineCache("another").put("net", {}, b"")
    assert key.read_bytes() == before
    assert not list(key.parent.glob(".*"))


def test_what_was_used_longest_ago_makes_room(kept, monkeypatch):
    size = (kept.folder / "net.sealed").stat().st_size
    monkeypatch.setattr(cache, "MOST_BYTES", 2 * size)
    kept.put("second", NOTES, b"compiled" * 100)
    for name, at in (("net", 2), ("second", 1)):
        os.utime(kept.folder / f"{name}.sealed", (at, at))
    kept.put("third", NOTES, b"compiled" * 100)
    assert [kept.has(name) for name in ("net", "second", "third")] == [True, False, True]


def test_other_weights_have_another_name(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    before = name_of(weights_of([tmp_path]))
    assert name_of(weights_of([tmp_path])) == before
    (tmp_path / "readme.txt").write_text("no matter")
    assert name_of(weights_of([tmp_path])) == before
    weights.write_bytes(b"two")
    assert name_of(weights_of([tmp_path])) != before
    monkeypatch.setattr(cache, "WHOLE_BYTES", 0)
    large = name_of(weights_of([tmp_path]))
    os.utime(weights, (5, 5))
    assert name_of(weights_of([tmp_path])) != large
