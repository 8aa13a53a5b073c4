"""The layouts have every row of the table, once, with its range and default, and nothing that is no address of ours."""

from __future__ import annotations

import json
import zlib
from itertools import combinations
from pathlib import Path
from typing import Any

import py2tosc
import pytest

from bridge.cli import main
from bridge.dispatch import COMMANDS
from bridge.layouts import stagecontrol, tosc, touchosc
from bridge.layouts.cli import STAGE_CONTROL, TOUCHOSC, everything_shipped
from bridge.layouts.pages import Control, Page, pages
from bridge.show.act_list import ACTS
from bridge.telemetry import READINGS, SHOW
from bridge.tox.pages import shipped
from pipelines.params import table

FOLDER = Path(__file__).parents[2] / "docs" / "layouts"
ANEW = "write them anew: livelatent layouts --shipped docs/layouts"
PAGES = everything_shipped("/ll")
PARAMETERS = {f"/ll/{spec.address}": spec for spec in table().values()}
OTHERS = {f"/ll/{name}" for name in (*COMMANDS, *ACTS)} | {f"/ll{row.address}" for row in (*READINGS, *SHOW)}
APP: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "open_stage_control.json").read_text())


def test_the_committed_layouts_are_current() -> None:
    # Compared unpacked: zlib's makers pack the same text differently.
    committed = zlib.decompress((FOLDER / TOUCHOSC).read_bytes()).decode()
    assert committed == tosc.xml(touchosc.layout(PAGES, "/ll")), ANEW
    assert (FOLDER / STAGE_CONTROL).read_text("utf-8") == stagecontrol.as_json(PAGES, "/ll"), ANEW


def test_pages_have_every_row_once_and_a_page_for_every_group() -> None:
    rows = [control.address for page in PAGES for control in page.rows]
    assert sorted(rows) == sorted(PARAMETERS)
    groups = {spec.group.capitalize() for spec in table().values()} - {"Show"}
    assert {page.title for page in PAGES} == groups | {"Play", "Status"}
    controls = [control for page in PAGES for control in page.controls]
    assert {control.address for control in controls} <= PARAMETERS.keys() | OTHERS
    assert {f"/ll/{name}" for name in COMMANDS} <= {control.address for control in controls}
    for control in (control for page in PAGES for control in page.rows):
        spec = PARAMETERS[control.address]
        assert (control.default, control.doc) == (spec.default, spec.doc)
        if control.options and not spec.ids:
            assert set(control.options) == set(spec.choices or range(int(spec.low or 0), int(spec.high or 0) + 1))


def test_other_prefixes_looks_and_models_go_in() -> None:
    made = pages("/x", lambda ids: ("mine",), [f"look {n}" for n in range(9)], ["friday"])
    controls = [control for page in made for control in page.controls]
    assert all(control.address.startswith("/x/") for control in controls)
    assert {control.args for control in controls if control.address == "/x/show/load"} == {("friday",)}
    named = [control.args for control in controls if control.address == "/x/look/recall"]
    assert named[:2] == [("look 0", 0.0), ("look 0", 4.0)]
    assert len(named) == 10
    assert next(control for control in controls if control.address == "/x/model").options == ("mine",)
    unread = pages("/x", lambda ids: ())
    assert next(control for page in unread for control in page.rows if control.address == "/x/model").options == (
        "pocket",
    )


# TouchOSC


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> py2tosc.Document:
    """The file, read by another's library."""
    file = tmp_path_factory.mktemp("layout") / TOUCHOSC
    file.write_bytes(tosc.pack(touchosc.layout(PAGES, "/ll")))
    return py2tosc.load(str(file))


def addresses(control: Any) -> set[str]:
    sent = {"".join(part.value for part in message.path) for message in control.messages}
    tag = control.get("tag") or ""
    return sent | ({tag} if tag.startswith("/") else set())


def test_touchosc_has_every_row_and_no_other_address(document: py2tosc.Document) -> None:
    found = set().union(*(addresses(control) for control in document.root.walk()))
    assert found <= PARAMETERS.keys() | OTHERS
    assert not PARAMETERS.keys() - found
    assert not {f"/ll{row.address}" for row in (*READINGS, *SHOW)} - found


def test_touchosc_faders_have_their_ranges_and_defaults(document: py2tosc.Document) -> None:
    seen = 0
    for fader in document.root.walk():
        if str(fader.control_type) != "FADER":
            continue
        (message,) = fader.messages
        (part,) = message.arguments
        spec = PARAMETERS[message.path[0].value]
        assert (part.scale_min, part.scale_max) == (spec.low, spec.high)
        bent = spec.curve == "square"
        assert (message.send, message.receive) == (not bent, not bent)
        x = next(value.default for value in fader.values if value.key == "x")
        at = spec.low + (spec.high - spec.low) * float(x) ** (2 if bent else 1)
        assert at == pytest.approx(spec.default, abs=1e-4 * (spec.high - spec.low))
        seen += 1
    assert seen == sum(spec.type is float for spec in PARAMETERS.values())


def test_touchosc_controls_lie_apart_inside_their_page_and_are_fit_for_fingers(document: py2tosc.Document) -> None:
    for control in document.root.walk():
        frame = control.get("frame")
        if str(control.control_type) in ("BUTTON", "FADER"):
            assert frame.h >= touchosc.LEAST
            assert frame.w >= touchosc.LEAST
        if not control.children or str(control.control_type) == "PAGER":
            continue
        assert all(inside(child.get("frame"), frame) for child in control.children), control.get("name")
        touched = [c for c in control.children if str(c.control_type) in ("BUTTON", "FADER", "GROUP")]
        for one, other in combinations(touched, 2):
            assert apart(one.get("frame"), other.get("frame")), (one.get("name"), other.get("name"))


def inside(child: Any, parent: Any) -> bool:
    return (
        child.x >= 0 and child.y >= 0 and child.x + child.w <= parent.w + 0.01 and child.y + child.h <= parent.h + 0.01
    )


def apart(a: Any, b: Any) -> bool:
    return a.x + a.w <= b.x + 0.01 or b.x + b.w <= a.x + 0.01 or a.y + a.h <= b.y + 0.01 or b.y + b.h <= a.y + 0.01


def test_a_text_can_hold_anything() -> None:
    odd = "a]]>b & <c> 'd' \\ \n é"
    page = Page("odd", buttons=((Control("button", "/ll/prompt", odd, args=(odd,)),),))
    root = py2tosc.loads(tosc.xml(touchosc.layout([page], "/ll"))).root
    button = next(control for control in root.walk() if str(control.control_type) == "BUTTON")
    assert button.get("name") == button.messages[0].arguments[0].value == odd


# Open Stage Control


def walk(widget: dict[str, Any]) -> list[dict[str, Any]]:
    below = [*widget.get("widgets", []), *widget.get("tabs", [])]
    return [widget, *(inner for child in below for inner in walk(child))]


SESSION = stagecontrol.session(PAGES, "/ll")
WIDGETS = walk(SESSION["content"])
BY_TYPE = {
    "boolean": bool, "number": (int, float), "integer": int, "string": str, "array": list, "object": dict,
    "percentage": str, "script": str, "*": object,
}  # fmt: skip


def test_stage_control_widgets_have_properties_that_the_app_knows() -> None:
    assert SESSION["version"] == APP["version"]
    for widget in WIDGETS:
        known = APP["widgets"][widget["type"]]
        for name, value in widget.items():
            assert name in known, (widget["type"], name)
            kinds = tuple(BY_TYPE[kind] for kind in known[name]["type"].split("|"))
            choices = known[name].get("choices")
            assert value in choices if choices else value == "auto" or isinstance(value, kinds), (widget["id"], name)


def test_stage_control_has_every_row_and_no_other_address() -> None:
    found = {widget["address"] for widget in WIDGETS if "address" in widget}
    assert found <= PARAMETERS.keys() | OTHERS
    assert not PARAMETERS.keys() - found
    # What has no address of ours would send at one of its own.
    assert all(widget.get("bypass") for widget in WIDGETS if "address" not in widget)


def test_stage_control_ranges_defaults_and_choices() -> None:
    for widget in WIDGETS:
        spec = PARAMETERS.get(widget.get("address", ""))
        if spec is None or (widget["type"] == "button" and spec.type is not bool):
            continue
        assert widget["default"] == spec.default
        if widget["type"] == "fader":
            assert (widget["range"]["min"], widget["range"]["max"]) == (spec.low, spec.high)
            if spec.type is int:
                assert widget["steps"] == (spec.high - spec.low) / spec.step + 1
        if "values" in widget and not spec.ids:
            assert set(widget["values"]) == set(spec.choices or range(int(spec.low), int(spec.high) + 1))
        if spec.ids and "values" in widget:
            assert widget["values"] == list(shipped(spec.ids))


def test_stage_control_widgets_share_an_id_only_as_fader_and_figures() -> None:
    by_id: dict[str, list[str]] = {}
    for widget in WIDGETS:
        by_id.setdefault(widget["id"], []).append(widget["type"])
    assert {tuple(types) for types in by_id.values() if len(types) > 1} == {("fader", "input")}


def test_the_command_writes_both_and_says_how_to_connect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layouts", str(tmp_path / "new"), "--listen-port", "9107", "--prefix", "/vj"]) == 0
    assert "port 9000 and receive at 9107" in capsys.readouterr().out
    xml = zlib.decompress((tmp_path / "new" / TOUCHOSC).read_bytes()).decode()
    assert "local PREFIX = '/vj'\nlocal PORT = 9107\n" in xml
    assert "[/ll/" not in xml  # the beginning of an address in CDATA
    assert json.loads((tmp_path / "new" / STAGE_CONTROL).read_text("utf-8"))["type"] == "session"
    assert main(["layouts", str(tmp_path), "--listen-port", "0"]) == 2
    (tmp_path / "file").write_text("")
    assert main(["layouts", str(tmp_path / "file")]) == 2
    assert "can't be written" in capsys.readouterr().err
