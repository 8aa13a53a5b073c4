"""The fake refuses what TouchDesigner refuses: otherwise what runs in it proves nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from td.fake.core import tdAttributeError, tdError
from td.fake.world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_names_that_are_not_there(world: World) -> None:
    top = world.op("/project1").create("nullTOP", "null1")
    for wrong in ("par.nothing", "frobnicate", "numpy_array"):
        with pytest.raises(tdAttributeError):
            eval(f"top.{wrong}")
    with pytest.raises(tdAttributeError):
        top.par.nothing = 1
    with pytest.raises(tdAttributeError):
        top.colour = (1, 1, 1)
    with pytest.raises(tdAttributeError):
        top.family = "CHOP"
    with pytest.raises(tdError, match="no operator"):
        world.op("/project1").create("magicTOP")
    assert world.op("/project1/nowhere") is None


def test_custom_parameters_have_their_rules(world: World) -> None:
    comp = world.op("/project1").create("baseCOMP", "base")
    page = comp.appendCustomPage("Page")
    for name in ("lower", "With_underscore", "TwoCapitals", "Has space", ""):
        with pytest.raises(tdError, match="capital"):
            page.appendFloat(name)
    with pytest.raises(TypeError):
        page.appendFloat("Label", "A label")
    par = page.appendFloat("Gain", label="Gain")[0]
    par.min, par.max, par.clampMin, par.clampMax = 0, 2, True, True
    comp.par.Gain = 7
    assert comp.par.Gain.eval() == 2
    with pytest.raises(tdError, match="number"):
        comp.par.Gain = "loud"
    menu = page.appendMenu("Mode")[0]
    menu.menuNames = ["one", "two"]
    with pytest.raises(tdError, match="menu"):
        comp.par.Mode = "three"
    par.expr = "1 + 0.5"
    assert (par.mode.name, par.eval()) == ("EXPRESSION", 1.5)
    comp.par.Gain = 1
    assert par.mode.name == "CONSTANT"


def test_another_thread_may_touch_nothing(world: World) -> None:
    comp, said = world.op("/project1"), []

    def touch() -> None:
        for action in (lambda: comp.path, lambda: comp.par.opviewer, lambda: comp.create("nullTOP")):
            try:
                action()
            except tdError as error:
                said.append(str(error))

    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
    assert len(said) == 3


def test_pixels_only_while_cooking_and_only_of_their_kinds(world: World) -> None:
    project = world.op("/project1")
    top = project.create("scriptTOP", "paint")
    with pytest.raises(tdError, match="onCook"):
        top.copyNumpyArray(np.zeros((4, 4, 4), np.uint8))
    callbacks = project.op("paint_callbacks")
    for wrong in ("np.zeros((4, 4, 4), np.float64)", "np.zeros((4, 4), np.uint8)", "[[1]]"):
        callbacks.text = f"import numpy as np\ndef onCook(scriptOp):\n    scriptOp.copyNumpyArray({wrong})"
        with pytest.raises(tdError, match="takes"):
            top.cook(force=True)
    callbacks.text = (
        "import numpy as np\ndef onCook(scriptOp):\n    scriptOp.copyNumpyArray(np.full((2, 2, 3), 255, np.uint8))"
    )
    top.cook(force=True)
    assert (top._seen() == 255).all()


def test_pictures_have_their_bottom_row_first_and_come_late(world: World) -> None:
    movie = world.op("/project1").create("moviefileinTOP", "movie")
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0] = 255
    movie._show(picture)
    assert movie.numpyArray(delayed=True) is None
    array = movie.numpyArray(delayed=True)
    assert array.dtype == np.float32
    assert array[1, 0, 0] == 1
    assert array[0, 0, 0] == 0
    movie._show(255 - picture)
    assert movie.numpyArray(delayed=True)[1, 0, 0] == 1, "a delayed read shows what was there a call ago"


def test_a_taken_name_is_counted_on(world: World) -> None:
    project = world.op("/project1")
    assert [project.create("nullTOP", "a").name for _ in range(2)] == ["a", "a1"]
    assert project.create("scriptTOP", "s").op("s_callbacks").dock is project.op("s")


def test_wires_join_one_family(world: World) -> None:
    project = world.op("/project1")
    top, dat, null = project.create("outTOP"), project.create("textDAT"), project.create("nullTOP")
    with pytest.raises(tdError, match="wired"):
        dat.outputConnectors[0].connect(top.inputConnectors[0])
    null.outputConnectors[0].connect(top.inputConnectors[0])
    assert top.inputs == [null]
    null.destroy()
    assert top.inputs == []
