"""What `auto` means on which machine, and the list of senders."""

from __future__ import annotations

import json
import sys

import pytest

from bridge import sources_cli, transports
from bridge.cli import main
from bridge.drivers import SINKS, SOURCES, DriverSpec
from bridge.transports import auto, ranked, why_not


def having(*names: str) -> object:
    return lambda name: "" if name in names else "not here"


@pytest.mark.parametrize(
    ("names", "remote", "best"),
    [
        (("spout", "shm", "zmq", "ndi"), False, "spout"),
        (("syphon", "shm", "zmq"), False, "syphon"),
        (("shm", "zmq", "ndi"), False, "shm"),
        (("spout", "shm", "zmq", "ndi"), True, "zmq"),
        (("ndi",), True, "ndi"),
    ],
)
def test_the_best_of_what_is_there_comes_first(names: tuple[str, ...], remote: bool, best: str) -> None:
    rows = ranked(remote, having(*names))
    assert auto(remote, having(*names)) == rows[0]
    assert rows[0].name == best
    assert [bool(row.missing) for row in rows] == sorted(bool(row.missing) for row in rows)


def test_every_transport_is_a_source_and_a_sink_and_says_what_it_costs() -> None:
    for remote in (False, True):
        for row in ranked(remote):
            assert DriverSpec.parse(row.source).name in SOURCES
            assert DriverSpec.parse(row.sink).name in SINKS
            assert row.cost
    assert why_not("shm") == why_not("zmq") == ""


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "win32":
        assert why_not("spout") == "there on Windows only"
    monkeypatch.setattr("bridge.ndi.find", lambda: None)
    assert why_not("ndi") == "`pip install livelatent[ndi]`"


def test_the_command_lists_both(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sources_cli, "why_not", lambda name: "" if name == "ndi" else "not here")
    monkeypatch.setattr(sources_cli, "_ndi", lambda ips: [f"DESK (out) {ips}"])
    assert main(["sources", "--ip", "10.0.0.5"]) == 0
    out = capsys.readouterr().out
    assert "ndi      DESK (out) ['10.0.0.5']" in out
    assert "spout    not here" in out
    assert "best first" in out
    assert main(["sources", "--json", "--remote"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["senders"]["ndi"] == ["DESK (out) []"]
    assert tree["transports"][0]["name"] == transports.auto(remote=True).name
