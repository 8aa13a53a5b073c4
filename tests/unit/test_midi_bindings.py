"""Files of bindings: what people write, what learning writes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError, ControlError
from bridge.midi import bindings
from bridge.midi.bindings import Binding, checked
from bridge.midi.events import Control
from engines import paths

MINE = """# My little box.
title = "box"

# The big knob
[[bind]]
on = "cc 21"   # left
to = "strength"
range = [0.2, 0.8]
attack = 0.5

[[bind]]
on = "note 36"
to = "look/recall"
args = ["calm", 2]
"""


@pytest.fixture
def mine() -> Path:
    path = bindings.own("mine")
    path.parent.mkdir(parents=True)
    path.write_text(MINE, "utf-8")
    return path


def test_every_file_that_we_ship_can_be_read() -> None:
    shipped = sorted((paths.data("configs") / "midi").glob("*.toml"))
    assert shipped
    for path in shipped:
        assert bindings.read_map(path).bind


def test_the_users_file_goes_before_ours_and_one_that_is_not_there_is_empty(mine: Path) -> None:
    assert bindings.find("mine") == mine
    assert bindings.read_map(bindings.find("other")).bind == ()
    shipped = next(iter(bindings.files().keys() - {"mine"}))
    own = bindings.own(shipped)
    own.write_text("", "utf-8")
    assert bindings.find(shipped) == own


def test_what_is_learnt_is_written_beside_what_people_wrote(mine: Path) -> None:
    bindings.learnt(mine, "mine", Binding(on="ch 2 cc 5", to="mix", port="nano"))
    assert mine.read_text("utf-8").startswith(MINE)
    assert bindings.read_map(mine).bind[-1] == Binding(on="ch 2 cc 5", to="mix", port="nano")


def test_learning_again_replaces_the_control_and_keeps_the_rest(mine: Path) -> None:
    bindings.learnt(mine, "mine", Binding(on="ch 1 cc 99", to="strength", port="nano"))
    text, bound = mine.read_text("utf-8"), bindings.read_map(mine).bind
    assert bound[0] == Binding(on="ch 1 cc 99", to="strength", port="nano", range=(0.2, 0.8), attack=0.5)
    assert len(bound) == 2
    assert text.startswith('# My little box.\ntitle = "box"\n\n# The big knob\n[[bind]]\n')
    assert text.endswith(MINE[MINE.index('on = "note 36"') :])
    # Other arguments are another button.
    bindings.learnt(mine, "mine", Binding(on="note 37", to="look/recall", args=["calm", 9]))
    assert len(bindings.read_map(mine).bind) == 3


def test_what_was_set_for_a_knob_is_not_forced_on_a_key(mine: Path) -> None:
    bindings.learnt(mine, "mine", Binding(on="note 9", to="strength"))
    assert bindings.read_map(mine).bind[0] == Binding(on="note 9", to="strength", range=(0.2, 0.8))


def test_forgetting_leaves_the_others_and_their_comments(mine: Path) -> None:
    bindings.forgotten(mine, "mine", "look/recall")
    assert mine.read_text("utf-8") == MINE[: MINE.index('\n[[bind]]\non = "note 36"')]
    bindings.forgotten(mine, "mine", "strength")
    assert mine.read_text("utf-8") == '# My little box.\ntitle = "box"\n'
    with pytest.raises(ControlError, match="nothing is bound to 'strength'"):
        bindings.forgotten(mine, "mine", "strength")


def test_a_file_in_another_form_is_written_anew_with_all_that_it_said() -> None:
    path = bindings.own("inline")
    path.parent.mkdir(parents=True)
    path.write_text('title = "a \\"b\\""\nbind = [{ on = "cc 1", to = "mix", quantise = "bar" }]\n', "utf-8")
    bindings.learnt(path, "inline", Binding(on="pitch", to="eta"))
    found = bindings.read_map(path)
    assert found.title == 'a "b"'
    assert found.bind == (Binding(on="cc 1", to="mix", quantise="bar"), Binding(on="pitch", to="eta"))


def test_what_ships_with_us_is_copied_when_something_is_learnt() -> None:
    name, path = next(iter(bindings.files().items()))
    before = bindings.read_map(path).bind
    own = bindings.learnt(path, name, Binding(on="ch 16 cc 119", to="eta"))
    assert own == bindings.own(name) != path
    assert bindings.read_map(own).bind[:-1] == before


@pytest.mark.parametrize(
    ("binding", "says"),
    [
        ({"on": "knob", "to": "mix"}, "a control is"),
        ({"on": "cc 1", "to": "mixx"}, "nothing is at 'mixx'; did you mean 'mix'"),
        ({"on": "cc 1", "to": "next/bar/<address>"}, "nothing is at"),
        ({"on": "cc 1", "to": "in/a b"}, "nothing is at"),
        ({"on": "cc 1", "to": "mix", "range": (0.0, 2.0)}, "mix takes 0 to 1"),
        ({"on": "cc 1", "to": "sampler", "range": (0.0, 1.0)}, "sampler takes text"),
        ({"on": "cc 1", "to": "prompt"}, "can't be turned through"),
        ({"on": "cc 1", "to": "width"}, "can't be turned through"),
        ({"on": "note 1", "to": "model"}, "can't be turned through"),
        ({"on": "note 1", "to": "prompt", "value": "x", "press": "toggle"}, "can't be turned through"),
        ({"on": "cc 1", "to": "prompt", "value": "x"}, 'add press = "set"'),
        ({"on": "note 1", "to": "width", "value": 100}, "multiples of 64"),
        ({"on": "note 1", "to": "mix", "press": "next"}, "no choices"),
        ({"on": "cc 1", "to": "steps", "attack": 1.0}, "changes at once"),
        ({"on": "cc 1", "to": "in/bass", "attack": 1.0}, "a schedule does"),
        ({"on": "note 1", "to": "mix", "relative": "twos"}, "an encoder is a cc or an nrpn"),
        ({"on": "note 1", "to": "look/recall", "args": ["x"] * 9}, "at most 8 args"),
    ],
)
def test_what_does_not_fit_together_is_a_sentence(binding: dict[str, object], says: str) -> None:
    with pytest.raises(ControlError, match=says):
        checked(Binding(**binding))  # type: ignore[arg-type]


def test_a_file_with_a_mistake_names_it_and_the_binding(mine: Path) -> None:
    for text, says in (
        (MINE + '\n[[bind]]\non = "cc 1"\nto = "nowhere"\n', "mine.toml: binding 3: nothing is at 'nowhere'"),
        ('[[bind]]\non = "cc 1"\n', r"mine.toml: .*missing required field `to` - at `\$.bind\[0\]`"),
        ('[[bind]]\non = "cc 1"\nto = "mix"\nspeed = 3\n', "unknown field `speed`"),
        ("[[bind]\n", "mine.toml: is not TOML"),
    ):
        mine.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=says):
            bindings.read_map(mine)


def test_what_is_to_be_learnt_is_checked_before_anything_is_moved() -> None:
    assert bindings.wanted("look/recall", ["calm", 2.0]).args == ["calm", 2.0]
    prompt = bindings.for_control(bindings.wanted("prompt", ["ink"]), Control("cc", 9, 1), "nano")
    assert prompt == Binding(on="ch 1 cc 9", to="prompt", port="nano", value="ink", press="set")
    with pytest.raises(ControlError, match="can't be turned through"):
        bindings.wanted("prompt", [])
    with pytest.raises(ControlError, match="takes one value"):
        bindings.wanted("mix", [1, 2])
    with pytest.raises(ControlError, match="nothing is at"):
        bindings.wanted("nope", [])
