"""The reference and telemetry say what the tables say, once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bridge.cli import main
from bridge.dispatch import COMMANDS, VERBS
from bridge.metrics import Metrics
from bridge.osc import build, parse
from bridge.reference import as_json, markdown
from bridge.show.act_list import ACTS
from bridge.telemetry import READINGS, SHOW, readings, show_telemetry, telemetry
from pipelines.params import table

DOC = Path(__file__).parents[2] / "docs" / "osc.md"


def test_the_committed_reference_is_current() -> None:
    assert DOC.read_text(encoding="utf-8") == markdown(), "write it anew: livelatent params > docs/osc.md"


def test_every_row_of_every_table_is_in_it_once() -> None:
    rows = re.findall(r"^\| `([^`]+)`", markdown(), re.MULTILINE)
    shown = [spec for spec in table().values() if not re.match(r"(control|lora)[2-9]_", spec.name)]
    expected = [f"/ll/{name}" for name in (*(spec.address for spec in shown), *VERBS, *COMMANDS, *ACTS)]
    assert sorted(rows) == sorted(expected + [f"/ll{row.address}" for row in (*READINGS, *SHOW)])
    for spec in table().values():
        assert markdown().count(spec.doc) == 1
    assert "### control 1 to 4\n" in markdown()
    assert "### lora 1 to 4\n" in markdown()


def test_json_has_the_same_rows() -> None:
    tree = json.loads(as_json("/x"))
    assert [row["address"] for row in tree["parameters"]] == [f"/x/{s.address}" for s in table().values()]
    assert [row["address"] for row in tree["telemetry"]] == [f"/x{row.address}" for row in (*READINGS, *SHOW)]
    strength = next(row for row in tree["parameters"] if row["name"] == "strength")
    spec = table()["strength"]
    assert (strength["type"], strength["low"], strength["high"]) == ("float", spec.low, spec.high)
    assert (strength["default"], strength["doc"], strength["ramps"]) == (spec.default, spec.doc, True)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params"]) == 0
    assert capsys.readouterr().out == markdown()
    assert main(["params", "--json"]) == 0
    assert capsys.readouterr().out == as_json()


def test_telemetry_before_the_first_frame_is_zero_and_empty() -> None:
    values = readings(Metrics().snapshot())
    assert set(values) == {row.address for row in (*READINGS, *SHOW)}
    assert not any(values.values())


def test_telemetry_reads_the_metrics_that_it_names() -> None:
    metrics = Metrics()
    for value in (10.0, 20.0, 30.0):
        metrics.observe("latency", value)
    metrics.count("source.dropped", 3)
    metrics.count("output.dropped", 4)
    metrics.gauge("params.version", 17.0)
    metrics.gauge("state", "running")
    metrics.gauge("prompt.tokens", 5.0)
    values = readings(metrics.snapshot())
    assert (values["/latency/p50"], values["/latency/p99"]) == (20.0, 30.0)
    assert (values["/dropped"], values["/param/version"], values["/state"]) == (7, 17, "running")
    assert values["/prompt/tokens"] == 5.0
    assert readings({"frame.rate": 12.5})["/fps"] == 12.5


def test_no_text_can_silence_it() -> None:
    seen = {"error": "a\0b" + "é" * 900, "source": "movie \udcff.mp4", "state": 5.0, "latency.p50": "broken"}
    packet = telemetry("/ll", seen)
    assert parse(build(packet)) == packet
    values = {m.address: m.args[0] for m in packet.messages()}
    assert values["/ll/error"] == "ab" + "é" * 197
    assert values["/ll/info/source"] == "movie ?.mp4"
    assert values["/ll/latency/p50"] == 0.0


def test_a_full_set_fits_one_datagram_of_a_network() -> None:
    seen = {row.metric: "x" * 500 if row.type is str else 1e9 for row in READINGS}
    assert len(build(telemetry("/ll", seen))) <= 1472
    assert (
        len(build(show_telemetry("/ll", {row.metric: "x" * 500 if row.type is str else 1e9 for row in SHOW}))) <= 1472
    )
    assert {m.address for m in telemetry("/ll", seen).messages()}.isdisjoint(f"/ll{row.address}" for row in SHOW)
