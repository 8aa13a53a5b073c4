"""What the OSC port can tell a show, through the real dispatch: arguments checked, order kept, answers given."""

from __future__ import annotations

import pytest
from support.theatre import Theatre, write_look, write_show

from bridge.dispatch import MAX_ACTS, Batch, Dispatch
from bridge.errors import LiveLatentError
from bridge.osc import build, message
from bridge.show.act_list import ACTS
from bridge.show.acts import Acts, Answer
from bridge.show.looks import Library

ME = ("127.0.0.1", 9)


class Port:
    """As bridge.control does it, without the socket."""

    def __init__(self) -> None:
        write_look("low", "[params]\nstrength = 0.1\n")
        write_show("mine", "[[cue]]\nname = 'a'\nlook = 'low'\n[[cue]]\nname = 'b'\nparams = { strength = 0.8 }\n")
        self.theatre = Theatre()
        acts = Acts(self.theatre.director)
        self.dispatch = Dispatch("/ll", self.theatre.store, acts.commands, None, acts)

    def batch(self, *said: tuple[object, ...]) -> Batch:
        batch = Batch()
        for address, *args in said:
            self.dispatch.take(build(message(str(address), *args)), ME, batch)  # type: ignore[arg-type]
        return batch

    def say(self, *said: object) -> Answer | None:
        """One message; raises what it is refused with."""
        batch = self.batch(said)
        assert not batch.refusals, batch.refusals
        for command in batch.commands.values():
            command()
        answer = None
        for call in (*batch.inputs.values(), *batch.acts):
            self.theatre.store.apply(call.before.values(), self.theatre.at_ns)
            answer = call.act(call.said.args, call.sender)
        self.theatre.store.apply(batch.settings.values(), self.theatre.at_ns)
        return answer


@pytest.fixture
def port() -> Port:
    return Port()


def test_looks_over_osc(port: Port) -> None:
    port.say("/ll/look/recall", "low", 2.0, "ease")
    assert port.theatre.after(1.0).strength == pytest.approx(0.35)
    port.theatre.after(1.0)
    port.say("/ll/look/save", "kept")
    assert Library().get("kept").values["strength"] == 0.1
    listed = port.say("/ll/look/list")
    assert listed is not None
    assert {"low", "kept", "calm"} <= set(listed)
    port.say("/ll/look/delete", "kept")
    assert "kept" not in Library().names()


def test_cues_over_osc(port: Port) -> None:
    port.say("/ll/show/load", "mine")
    assert port.say("/ll/cue/list") == ("a", "b")
    port.say("/ll/cue/go")
    assert port.theatre.frame().strength == 0.1
    port.say("/ll/cue/jump", 2)
    assert port.theatre.frame().strength == 0.8
    port.say("/ll/cue/insert", "b", "low", 4.0, "2 bars")
    port.say("/ll/cue/set", 2, "name", "between")
    port.say("/ll/cue/insert", 0, "low")
    assert port.say("/ll/cue/list") == ("a", "between", "b", "low")
    assert port.theatre.gauge("cue") == "3 b"  # the one that is on stays on
    port.say("/ll/cue/remove", "a")
    port.say("/ll/show/save", "edited")
    again = Port()
    again.say("/ll/show/load", "edited")
    assert again.say("/ll/cue/list") == ("between", "b", "low")
    assert again.theatre.director.playing().show.cue[0].wait == "2 bars"


def test_a_list_begins_with_its_first_cue_and_is_put_in_order(port: Port) -> None:
    with pytest.raises(LiveLatentError, match="no show is loaded"):
        port.say("/ll/cue/insert", 1, "low")
    for name in ("calm", "low", "crisp"):
        port.say("/ll/cue/insert", 0, name)
    port.say("/ll/cue/go")
    assert port.theatre.frame().strength == 0.5
    port.say("/ll/cue/move", 3, 1)
    port.say("/ll/cue/move", "2", 3)
    assert port.say("/ll/cue/list") == ("crisp", "low", "calm")
    port.say("/ll/show/save", "three")
    assert port.theatre.director.playing().show.name == "three"
    port.say("/ll/show/new")
    with pytest.raises(LiveLatentError, match="no show is loaded"):
        port.say("/ll/cue/list")
    assert port.theatre.gauge("cue") == ""


def test_who_asked_for_a_look_is_told_its_values_too(port: Port) -> None:
    seen: list[object] = []
    port.theatre.store.watch(lambda setting: seen.append((setting.name, setting.origin)))
    port.say("/ll/look/recall", "low")
    assert seen == [("strength", None)]


def test_schedules_and_inputs_over_osc(port: Port) -> None:
    port.say("/ll/schedule/control/1/weight", "map bass 0 2")
    port.say("/ll/schedule/strength", "0:(0), 10:(1)", 20.0)
    port.say("/ll/in/bass", 0.25)
    frame = port.theatre.after(1.0)
    assert frame.control1_weight == pytest.approx(0.5)
    assert frame.strength == 1.0
    assert port.theatre.after(6 / 15).strength == pytest.approx(0.1, abs=1e-6)  # it begins again after 20 frames
    assert port.say("/ll/schedule/list") == ("control/1/weight", "map bass 0 2", "strength", "0:(0), 10:(1)")
    port.say("/ll/strength", 0.75)
    assert port.theatre.after(3 / 15).strength == 0.75
    port.say("/ll/schedule/release", "strength")
    assert port.theatre.after(0.0).strength == pytest.approx(0.4, abs=1e-6)
    port.say("/ll/schedule/strength", "")
    assert port.theatre.after(9.0).strength == pytest.approx(0.4, abs=1e-6)


def test_of_inputs_the_last_value_counts_and_of_acts_the_order(port: Port) -> None:
    flood = port.batch(*(("/ll/in/bass", i / 1000) for i in range(1000)))
    assert len(flood.inputs) == 1
    batch = port.batch(("/ll/strength", 0.2), ("/ll/look/recall", "low"), ("/ll/strength", 0.4))
    assert [call.before["strength"].value for call in batch.acts] == [0.2]
    assert batch.settings["strength"].value == 0.4
    many = port.batch(*(("/ll/look/list",) for _ in range(MAX_ACTS + 5)))
    assert (len(many.acts), many.rejected["value"]) == (MAX_ACTS, 5)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (("/ll/look/recall",), "1 to 4 arguments"),
        (("/ll/look/recall", 7), "argument 1 is text"),
        (("/ll/look/recall", "low", "soon"), "argument 2 is a finite number"),
        (("/ll/look/recall", "low", float("nan")), "argument 2 is a finite number"),
        (("/ll/look/recall", "low", -1.0), "the seconds must be"),
        (("/ll/look/recall", "low", 1.0, "wild"), "a curve is linear"),
        (("/ll/look/recall", "low", 1.0, "ease", "soon"), "a beat or a bar"),
        (("/ll/look/recall", "../../etc/passwd"), "name is up to 40"),
        (("/ll/look/save", "../x"), "name is up to 40"),
        (("/ll/show/load", "../x"), "name is up to 40"),
        (("/ll/show/save", "x"), "no show is loaded"),
        (("/ll/cue/go",), "no show is loaded"),
        (("/ll/cue/jump", 1), "no show is loaded"),
        (("/ll/schedule/width", "1"), "can't be scheduled"),
        (("/ll/schedule/strength", "0:(0), 5:(system('x'))"), "at key 5"),
        (("/ll/schedule/strength", "1", 0.0), "the length"),
        (("/ll/schedule/release", "mix"), "has no schedule"),
        (("/ll/next/bar/strength",), "takes 1 to 2 arguments"),
        (("/ll/next/bar/strength", 2.0), "strength takes 0 to 1"),
        (("/ll/next/bar/model", "nope"), "there is no 'nope'"),
        (("/ll/midi/learn", "strength"), "start with --midi"),
        (("/ll/in/bass", "loud"), "argument 1 is a finite number"),
        (("/ll/in/bass", float("inf")), "argument 1 is a finite number"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_changes_nothing(port: Port, said: tuple[object, ...], says: str) -> None:
    before = port.theatre.store.values()
    with pytest.raises(LiveLatentError, match=says):
        port.say(*said)
    assert port.theatre.store.values() == before


def test_edits_that_do_not_fit_leave_the_list(port: Port) -> None:
    port.say("/ll/show/load", "mine")
    for said, says in (
        (("/ll/cue/set", "a", "params", "x"), "a cue has"),
        (("/ll/cue/set", "a", "curve", "wild"), "the cue:"),
        (("/ll/cue/set", "a", "next", "nobody"), "there is no cue 'nobody'"),
        (("/ll/cue/set", "a", "look", "nobody"), "there is no look 'nobody'"),
        (("/ll/cue/insert", 9, "low"), "there is no cue '9'"),
        (("/ll/cue/insert", 1, "low", 0, "soon"), "wait is seconds"),
    ):
        with pytest.raises(LiveLatentError, match=says):
            port.say(*said)
    port.say("/ll/cue/remove", 1)
    with pytest.raises(LiveLatentError, match="1 to 1000 cues"):
        port.say("/ll/cue/remove", 1)
    assert port.say("/ll/cue/list") == ("b",)


def test_every_documented_address_is_heard_and_no_other(port: Port) -> None:
    acts = Acts(port.theatre.director)
    for name in ACTS:
        known = name.replace("<parameter>", "control/1/weight").replace("<name>", "bass")
        assert acts.find(known.replace("<address>", "strength")), name
    for other in (
        "next/strength",
        "next/bar",
        "next/bar/nope",
        "next/bar/next/bar/mix",
        "next/hour/mix",
        "schedule/nope",
        "in/",
        "in/a b",
        "in/" + "x" * 40,
        "look",
        "look/",
        "cue/",
        "in/a/b",
    ):
        assert acts.find(other) is None, other


def test_whatever_has_an_address_waits_for_its_beat_or_bar(port: Port) -> None:
    """120 beats a minute, 4 to the bar, and the theatre stands between two beats."""
    theatre = port.theatre
    tempo = theatre.director.drives.tempo
    theatre.after(0.9 - theatre.director.drives.tempo.beat(theatre.at_ns / 1e9) % 4 * 0.5 + 2.0)
    port.say("/ll/next/beat/strength", 0.25)
    port.say("/ll/next/bar/mix", 0.5, 1.0)
    port.say("/ll/next/bar/schedule/eta", "t")
    before = theatre.after(0.09)
    assert (before.strength, before.mix, before.eta) == (0.6, 1.0, 0.3)
    on_beat = theatre.after(0.02)
    assert (on_beat.strength, on_beat.mix) == (0.25, 1.0)
    theatre.after(0.96)
    later = theatre.after(0.53)
    # The bar was half a second ago, and what it began, began then, whenever a frame looked.
    assert tempo.beat(theatre.at_ns / 1e9) % 4 == pytest.approx(1.0)
    assert later.mix == pytest.approx(0.75)
    assert later.eta == pytest.approx(0.5)


def test_of_what_waits_for_one_address_the_last_counts_and_a_cue_begins_on_the_bar(port: Port) -> None:
    theatre = port.theatre
    theatre.after(2.5 - theatre.director.drives.tempo.beat(theatre.at_ns / 1e9) % 4 * 0.5)
    port.say("/ll/show/load", "mine")
    for value in (0.1, 0.3, 0.7):
        port.say("/ll/next/bar/mix", value)
    port.say("/ll/next/bar/cue/go")
    port.say("/ll/next/bar/cue/go")
    port.say("/ll/next/bar/look/recall", "nobody")
    assert theatre.after(1.4).mix == 1.0
    assert theatre.director.playing().index == -1
    assert theatre.after(0.2).mix == 0.7
    assert theatre.director.playing().index == 0
    assert "there is no look 'nobody'" in str(theatre.gauge("error"))
