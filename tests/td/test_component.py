"""The component's sources, the builder that runs in TouchDesigner, and the pages that follow from the table."""

from __future__ import annotations

import ast
import itertools
import sys
from pathlib import Path

import pytest
from td.fake.world import World

from bridge.drivers import SINKS, SOURCES
from bridge.tox import component
from bridge.tox.drawing import as_svg
from bridge.tox.pages import as_json, document, td_name, transports
from pipelines.params import table
from td.component import ROOT, Stage, build

SOURCES_TD = sorted((ROOT / "td" / "component").glob("*.py"))
BUNDLED = {"numpy", "cv2"}
OPTIONAL = {"zmq"}


def test_pages_json_is_what_follows_from_the_table() -> None:
    """If this fails: `livelatent td pages > td/component/pages.json`."""
    assert (ROOT / "td/component/pages.json").read_text("utf-8") == as_json()


def test_the_drawing_is_that_of_the_network() -> None:
    """If this fails: `livelatent td drawing > docs/touchdesigner.svg`, and look at it."""
    drawn = as_svg()
    assert (ROOT / "docs/touchdesigner.svg").read_text("utf-8") == drawn
    ops = component.network()["ops"]
    assert all(op["name"] in drawn for op in ops)
    places = [tuple(op["at"]) for op in ops]
    # A node is 130 by 90 in TouchDesigner.
    touching = [
        (a, b) for a, b in itertools.combinations(places, 2) if abs(a[0] - b[0]) < 130 and abs(a[1] - b[1]) < 90
    ]
    assert touching == []


def test_every_row_of_the_table_is_one_parameter_with_its_range_choices_and_default() -> None:
    rows = [row for page in document()["pages"] for row in page["pars"]]
    assert len({row["name"] for row in rows}) == len(rows), "TouchDesigner replaces a parameter of the same name"
    mine = {
        row["address"]: (page["name"], row) for page in document()["pages"] for row in page["pars"] if "address" in row
    }
    assert len(mine) == len(table())
    for name, spec in table().items():
        page, row = mine[f"/ll/{spec.address}"]
        assert (row["name"], page) == (td_name(name), spec.group.capitalize())
        assert (row["default"], row["kind"]) == (spec.default, spec.kind)
        assert (row.get("min"), row.get("max")) == (spec.low, spec.high)
        assert spec.doc in row["help"]
        if spec.choices:
            assert (row["style"], row["menu"]) == ("Menu", list(spec.choices))
        if spec.ids:
            assert row["style"] == "StrMenu"
            assert spec.default in row["menu"]


def test_the_menu_lists_the_ways_that_the_bridge_has_drivers_for() -> None:
    menu = next(row for row in document()["pages"][0]["pars"] if row["name"] == "Transport")
    assert menu["menu"] == ["auto", *transports()]
    assert {"shm", "zmq"} <= set(transports()) <= set(SOURCES) & set(SINKS)
    assert all(name in menu["help"].lower() for name in ("shared memory", "zmq"))


@pytest.mark.parametrize("path", SOURCES_TD, ids=lambda path: path.name)
def test_a_source_is_short_and_needs_nothing_that_touchdesigner_lacks(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 200
    tree = ast.parse(text, feature_version=(3, 11))
    ours = {path.stem for path in SOURCES_TD}
    tops = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in (str(name).partition(".")[0] for name in names):
                allowed = (
                    ours | sys.stdlib_module_names | {"numpy"} | (set() if id(node) in tops else BUNDLED | OPTIONAL)
                )
                assert name in allowed | {"_posixshmem"}, f"{path.name} imports {name}"
    assert "resource_tracker" not in text


def test_every_source_is_in_the_network() -> None:
    named = {op["file"] for op in component.network()["ops"] if "file" in op}
    assert named == {path.name for path in SOURCES_TD} | {"pages.json"}


def test_the_builder_and_the_bridge_compute_the_same_hash(tmp_path: Path) -> None:
    world = World()
    comp = build(world, tmp_path)
    note = comp.op("build").text
    assert component.component_hash() in note
    assert len(component.component_hash()) == 12
    file = tmp_path / "td/component/ll_face.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert build(world, tmp_path).op("build").text == note, "line ends must not count"
    file.write_bytes(file.read_bytes() + b"# changed\n")
    assert component.component_hash() not in build(world, tmp_path).op("build").text
    world.close()


def test_the_builder_builds_all_and_saves_it(tmp_path: Path) -> None:
    world = World()
    comp = build(world, tmp_path)
    wanted = {op["name"]: op["type"] for op in component.network()["ops"]}
    assert {op.name: op.OPType for op in comp.children} == wanted
    assert [page.name for page in comp.customPages] == [page["name"] for page in document()["pages"]]
    assert (tmp_path / "td/livelatent.tox").is_file()
    assert (len(comp.inputConnectors), len(comp.outputConnectors)) == (3, 2)
    assert comp.op("receive_callbacks").dock is comp.op("receive")
    assert comp.par.Strength.max == 1
    assert comp.par.Fps.readOnly
    assert comp.ext.LiveLatent.build["hash"] == component.component_hash()
    world.close()


def test_building_again_keeps_wires_values_and_place(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.comp.par.Prompt, stage.comp.par.Strength, stage.comp.nodeX = "gold", 0.25, 700
    stage.comp.par.Seed.expr = "40 + 2"
    again = build(stage.world, tmp_path)
    assert not stage.comp.valid
    assert [op.name for op in stage.project.children if op.OPType == "baseCOMP"] == ["livelatent"]
    assert (again.par.Prompt.eval(), again.par.Strength.eval(), again.nodeX) == ("gold", 0.25, 700)
    assert (again.par.Seed.mode.name, again.par.Seed.eval()) == ("EXPRESSION", 42)
    assert again.inputs == [stage.movie]
    assert stage.out.inputs == [again]
    stage.close()


@pytest.mark.parametrize("deferred", [True, False])
def test_a_component_without_pages_makes_them_when_it_first_runs(tmp_path: Path, deferred: bool) -> None:
    """What toecollapse packs has none: their file format is not known well enough to write."""
    world = World(deferred)
    comp = build(world, tmp_path)
    before = [par.name for par in comp.customPars]
    comp.ext.LiveLatent.onDestroyTD()
    comp._extension = None
    comp.destroyCustomPars()
    assert comp.customPars == []
    world.frame()
    assert [par.name for par in comp.customPars] == before
    world.close()
