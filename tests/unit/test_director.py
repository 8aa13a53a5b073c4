"""Cues become parameters, frame by frame: on their own time, from their own looks, whatever is edited meanwhile."""

from __future__ import annotations

import os

import pytest
from support.theatre import FRAME_S, Theatre, write_look, write_show

from bridge.errors import ControlError
from bridge.show.recall import coming
from pipelines.coming import Coming

SHOW = """
[[cue]]
name = "one"
look = "low"
wait = 2.505

[[cue]]
name = "two"
look = "high"
move = 2
wait = "4 beats"

[[cue]]
name = "three"
params = { mix = 0.5 }
schedule = { strength = "0s:(0), 10s:(1)" }
"""


@pytest.fixture
def theatre() -> Theatre:
    write_look("low", "[params]\nstrength = 0.1\n")
    write_look("high", "[params]\nstrength = 0.9\n")
    write_show("mine", SHOW)
    made = Theatre()
    made.director.load("mine")
    return made


def test_cues_fire_with_the_frame_after_their_time_and_begin_at_it(theatre: Theatre) -> None:
    assert theatre.after(60.0).strength == 0.6  # nothing fires before go
    theatre.director.go()
    frames = theatre.run(8.0)
    assert frames[0].strength == 0.1
    # Cue two begins at 2.505 s, between two frames, and moves for 2 s from there.
    assert frames[149].strength == 0.1
    assert frames[150].strength == pytest.approx(0.1 + 0.8 * (151 * FRAME_S - 2.505) / 2.0, abs=1e-6)
    # Cue three comes 4 beats after it, at 4.505 s, and its schedule counts from there.
    assert frames[-1].strength == pytest.approx((8.0 - 4.505) / 10.0, abs=1e-6)
    assert frames[-1].mix == 0.5


def test_a_show_tells_how_it_stands(theatre: Theatre) -> None:
    assert (theatre.gauge("cue"), theatre.gauge("cue.next"), theatre.gauge("cue.in")) == ("", "1 one", -1.0)
    theatre.director.go()
    theatre.after(0.5)
    assert (theatre.gauge("cue"), theatre.gauge("cue.next"), theatre.gauge("look")) == ("1 one", "2 two", "low")
    assert theatre.gauge("cue.in") == pytest.approx(2.005)
    assert 1.0 <= float(theatre.gauge("beat")) < 5.0


def test_the_next_cue_is_known_ahead(theatre: Theatre) -> None:
    assert theatre.director.upcoming == {"strength": 0.1}
    theatre.director.go()
    theatre.frame()
    assert theatre.director.upcoming == {"strength": 0.9}


def test_hold_jump_and_back(theatre: Theatre) -> None:
    theatre.director.go()
    theatre.after(1.0)
    theatre.director.hold()
    assert theatre.after(100.0).strength == 0.1
    theatre.director.hold()
    theatre.after(2.0)
    assert theatre.gauge("cue") == "2 two"
    theatre.director.jump("three")
    assert theatre.frame().mix == 0.5
    theatre.director.back()
    theatre.frame()
    assert theatre.gauge("cue") == "2 two"
    with pytest.raises(ControlError, match="there is no cue 'four'"):
        theatre.director.jump("four")


def test_an_edited_file_is_taken_over_while_it_plays_and_a_broken_one_is_not(theatre: Theatre) -> None:
    theatre.director.go()
    theatre.after(1.0)
    path = write_show("mine", SHOW.replace("wait = 2.505", "wait = 1.5"))
    os.utime(path, ns=(1, 1))
    theatre.director.tick()
    theatre.after(0.6)
    assert theatre.gauge("cue") == "2 two"
    write_show("mine", "[[cue]]\nwait = 'soon'\n")
    os.utime(path, ns=(2, 2))
    assert "wait is seconds" in str(theatre.gauge("error"))
    assert theatre.gauge("cue.next") == "3 three"
    path.unlink()
    assert theatre.gauge("cue.next") == "3 three"


def test_a_cue_whose_look_is_gone_is_told_and_the_list_goes_on(theatre: Theatre) -> None:
    theatre.director.go()
    theatre.after(1.0)
    theatre.director.looks.delete("high")
    theatre.after(2.0)
    assert "there is no look 'high'" in str(theatre.gauge("error"))
    assert theatre.gauge("cue.failed") == 1
    assert theatre.after(2.0).mix == 0.5


def test_without_a_show_go_is_a_sentence() -> None:
    with pytest.raises(ControlError, match="no show is loaded"):
        Theatre().director.go()
    with pytest.raises(ControlError, match="there is no show 'nope'"):
        Theatre().director.load("nope")


def test_taps_set_the_tempo_row() -> None:
    theatre = Theatre()
    for _ in range(4):
        theatre.after(0.6)
        theatre.director.tap()
    assert theatre.frame().tempo == pytest.approx(100.0)


def test_what_the_next_cue_has_to_encode_or_load_travels_with_the_frames() -> None:
    write_show(
        "ahead",
        """
        [[cue]]
        params = { prompt = "ink" }
        [[cue]]
        params = { strength = 0.3 }
        """,
    )
    theatre = Theatre(prompt="neon", negative="blur")
    theatre.director.load("ahead")
    frame = theatre.frame()
    assert frame.coming is not None
    assert (frame.coming.texts, frame.coming.controlnets) == (("ink", "blur"), ())
    theatre.director.go()
    assert theatre.after(0.1).prompt == "ink"
    assert theatre.frame().coming is None


def test_only_controlnets_that_are_not_there_yet_are_loaded_ahead() -> None:
    here = Theatre(control1_model="none").store.values()
    wanted = coming({"control1_model": "pocket-edge", "control2_model": "none"}, here)
    assert wanted == Coming(None, ("pocket-edge",))
    assert coming({"control2_model": "pocket-edge"}, {**here, "control1_model": "pocket-edge"}) is None


def test_loras_of_the_next_cue_are_loaded_ahead_too() -> None:
    here = Theatre().store.values()
    assert coming({"lora2_id": "paint", "lora1_id": "none"}, here) == Coming(None, (), ("paint",))
    assert coming({"lora2_id": "paint"}, {**here, "lora1_id": "paint"}) is None
