"""Looks: kept in files by safe names, and recalled at once or over a time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.theatre import Theatre, write_look

from bridge.errors import ConfigError, ControlError
from bridge.load_config import load_config, looks, read_file
from bridge.show.looks import MAX_PICTURE_BYTES, Library, Look, as_toml, saved_rows
from bridge.web.pictures import encode_jpeg
from engines import paths
from pipelines.params import Params, table

TRICKY = "a \"quoted\" \\ city\nof é😀\x7f 'glass'"


def test_ours_are_there_and_partial() -> None:
    library = Library()
    assert {"calm", "crisp", "flowing"} <= set(library.names())
    calm = library.get("calm")
    assert 0 < len(calm.values) < 20
    assert calm.values["strength"] == 0.5


def test_a_saved_look_is_read_back_as_it_was() -> None:
    params = Params(prompt=TRICKY, strength=0.123456789, steps=3, control2_on=True, control2_weight=0.3)
    values = {name: getattr(params, name) for name in saved_rows()}
    library = Library()
    library.save(Look("Calm 2", values, {"mix": "lfo sine 4s"}))
    again = Library().get("Calm 2")
    assert again.values == values
    assert again.schedules == {"mix": "lfo sine 4s"}
    assert "Calm 2" in looks()
    # It is a config file like any other, and begins a run too.
    assert load_config([read_file("Calm 2")]).params["prompt"] == TRICKY


def test_a_saved_look_has_what_makes_the_picture_and_nothing_that_is_the_shows() -> None:
    rows = saved_rows()
    assert {"prompt", "seed", "model", "control1_on"} <= set(rows)
    assert not {"pause", "bypass", "tempo", "colour_capture"} & set(rows)
    assert len(rows) > len(table()) - 10


def test_a_look_of_the_users_own_goes_before_ours_and_can_be_deleted() -> None:
    library = Library()
    library.save(Look("calm", {"strength": 0.9}, {}))
    assert library.get("calm").values == {"strength": 0.9}
    library.delete("calm")
    assert library.get("calm").values["strength"] == 0.5
    with pytest.raises(ControlError, match="is one of ours"):
        library.delete("calm")
    with pytest.raises(ControlError, match="is not there"):
        library.delete("nobody")


def test_a_saved_look_has_its_picture_beside_it_and_loses_it_with_it() -> None:
    jpeg = encode_jpeg(np.full((8, 8, 3), 90, np.uint8))
    theatre = Theatre(picture=lambda: jpeg)
    library = theatre.director.looks
    theatre.director.save("mine")
    assert library.picture("mine") == jpeg
    (card,) = [card for card in library.cards() if card.name == "mine"]
    assert card.own
    assert card.picture > 0
    # Saved again while there is no picture: an old one would lie.
    theatre.director._picture = lambda: None
    theatre.director.save("mine")
    assert library.picture("mine") is None
    theatre.director._picture = lambda: jpeg
    theatre.director.save("mine")
    theatre.director.delete("mine")
    assert [p.name for p in (paths.home() / "looks").iterdir()] == []
    with pytest.raises(ControlError):
        library.picture("../../token")


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"", b"\xff\xd8\xff" + bytes(MAX_PICTURE_BYTES)])
def test_only_a_small_jpeg_is_a_picture(data: bytes) -> None:
    write_look("low", "[params]\nstrength = 0.1\n").with_suffix(".jpg").write_bytes(data)
    assert Library().picture("low") is None


def test_a_changed_file_is_read_again() -> None:
    library = Library()
    path = write_look("mine", "[params]\nstrength = 0.2\n")
    assert library.get("mine").values == {"strength": 0.2}
    path.write_text("[params]\nstrength = 0.25\n")
    os.utime(path, ns=(1, 1))
    assert library.get("mine").values == {"strength": 0.25}


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/b", "a\\b", "/etc/passwd", ".hidden", "x.toml", "a" * 41, "con", "LPT1", "é", "x ", "a\0b", 7],
)
def test_a_name_is_never_a_path(name: object) -> None:
    library = Library()
    for act in (library.get, library.delete):
        with pytest.raises(ControlError, match="name is up to 40"):
            act(name)
    with pytest.raises(ControlError, match="name is up to 40"):
        library.save(Look(name, {}, {}))  # type: ignore[arg-type]
    assert not list(paths.home().rglob("*.toml"))


def test_a_file_that_is_wrong_names_itself_and_the_key() -> None:
    for text, says in {
        "[params]\nstrenth = 1\n": "strenth",
        "[params]\nstrength = 7\n": "0 to 1",
        "source = 'scene'\n": "source has no place in a look",
        "[schedule]\nstrength = '0:('\n": "schedule.strength",
        "[schedule]\nwidth = '1'\n": "can't be scheduled",
        "[schedule.control.1]\nnope = '1'\n": "schedule.control.1.nope",
        "[schedule]\nstrength = 1\n": "takes text",
    }.items():
        write_look("broken", text)
        with pytest.raises(ConfigError, match=says) as caught:
            Library().get("broken")
        assert "broken.toml" in str(caught.value)


def test_toml_is_written_table_by_table() -> None:
    text = as_toml(Look("x", {"control1_weight": 0.5, "strength": 0.25, "control1_on": True}, {"control1_low": "t"}))
    wanted = '[params]\nstrength = 0.25\n\n[control.1]\non = true\nweight = 0.5\n\n[schedule]\ncontrol1_low = "t"\n'
    assert text == wanted
    assert not Path("x.tmp").exists()


# Recall


def test_numbers_move_along_the_curve_and_the_rest_changes_at_once() -> None:
    theatre = Theatre(strength=0.2, mix=1.0, sampler="auto", width=256)
    write_look("far", '[params]\nstrength = 0.6\nsampler = "tcd"\nwidth = 512\n')
    theatre.director.recall("far", 4.0, "ease")
    first = theatre.after(1.0)
    assert (first.sampler, first.width) == ("tcd", 512)
    assert first.strength == pytest.approx(0.2 + 0.4 * (3 / 16 - 2 / 64))
    assert theatre.after(1.0).strength == pytest.approx(0.4)
    assert theatre.after(2.0).strength == 0.6
    assert theatre.frame().mix == 1.0
    assert theatre.gauge("look") == "far"


def test_a_recall_may_wait_for_the_bar_and_the_last_one_counts() -> None:
    theatre = Theatre(strength=0.2)
    write_look("far", "[params]\nstrength = 0.6\n")
    write_look("near", "[params]\nstrength = 0.3\n")
    theatre.director.downbeat()
    theatre.after(0.5)
    theatre.director.recall("near", None, "linear", "bar")
    theatre.director.recall("far", 1.0, "linear", "bar")
    assert theatre.after(1.4).strength == 0.2
    assert theatre.after(0.6).strength == pytest.approx(0.4)  # the bar of four beats at 120 began half a second ago
    assert theatre.after(9.0).strength == 0.6


def test_prompts_cross_fade_in_the_seconds_of_the_recall() -> None:
    theatre = Theatre()
    write_look("ink", '[params]\nprompt = "ink"\n')
    theatre.director.recall("ink", 3.0)
    frame = theatre.after(0.1)
    assert (frame.prompt, frame.prompt_fade) == ("ink", 3.0)


def test_seeds_walk_on_the_sphere_and_end_under_their_own_numbers() -> None:
    theatre = Theatre(seed=5, seed2=6)
    write_look("nine", "[params]\nseed = 9\nseed2 = 11\nseed_mix = 0.0\n")
    theatre.director.recall("nine", 2.0)
    half = theatre.after(1.0)
    assert (half.seed, half.seed2) == (5, 9)
    assert half.seed_mix == pytest.approx(0.5)
    end = theatre.after(1.0)
    assert (end.seed, end.seed2, end.seed_mix) == (9, 11, 0.0)


def test_a_walk_that_is_turned_round_half_way_goes_back_without_a_jump() -> None:
    theatre = Theatre(seed=5, seed2=6)
    write_look("five", "[params]\nseed = 5\nseed2 = 6\nseed_mix = 0.0\n")
    write_look("nine", "[params]\nseed = 9\nseed2 = 11\n")
    theatre.director.recall("nine", 2.0)
    theatre.after(1.0)
    theatre.director.recall("five", 2.0)
    now = theatre.frame()
    assert (now.seed, now.seed2) == (5, 9)
    assert now.seed_mix == pytest.approx(0.5)
    assert theatre.after(1.0).seed_mix == pytest.approx(0.25)
    end = theatre.after(1.0)
    assert (end.seed, end.seed2, end.seed_mix) == (5, 6, 0.0)


def test_a_hand_on_the_seeds_ends_their_walk() -> None:
    theatre = Theatre(seed=5)
    write_look("nine", "[params]\nseed = 9\n")
    theatre.director.recall("nine", 2.0)
    theatre.after(1.0)
    theatre.store.set("seed", 77, at_ns=theatre.at_ns)
    assert theatre.after(5.0).seed == 77


def test_a_look_without_a_row_that_it_can_not_set_changes_nothing() -> None:
    theatre = Theatre(strength=0.2)
    path = write_look("gone", '[params]\nstrength = 0.9\nmodel = "pocket"\n')
    theatre.director.looks.get("gone")
    theatre.store._ids = {"models": lambda: ()}  # the model was taken away meanwhile
    with pytest.raises(ControlError, match="there is no 'pocket'"):
        theatre.director.recall("gone")
    assert theatre.after(1.0).strength == 0.2
    path.unlink()
    with pytest.raises(ControlError, match="there is no look 'gone'"):
        theatre.director.recall("gone")


def test_a_look_starts_its_schedules_and_ends_those_of_the_rows_that_it_sets() -> None:
    theatre = Theatre(strength=0.2)
    write_look("moves", '[schedule]\nstrength = "0s:(0.5), 10s:(1)"\nmix = "0.25"\n')
    write_look("still", "[params]\nstrength = 0.3\n")
    theatre.director.recall("moves")
    assert theatre.after(5.0).strength == pytest.approx(0.75)
    theatre.director.recall("still", 1.0)
    assert theatre.after(0.5).strength == pytest.approx(0.525)  # from where the schedule had it
    end = theatre.after(0.5)
    assert (end.strength, end.mix) == (0.3, 0.25)
    assert list(theatre.director.drives.texts()) == ["mix"]


def test_saving_keeps_schedules_as_such_and_ending_one_leaves_its_value() -> None:
    theatre = Theatre(strength=0.2)
    theatre.director.schedule("strength", "0s:(0.5), 10s:(1)")
    theatre.after(5.0)
    theatre.director.save("now")
    look = Library().get("now")
    assert look.schedules == {"strength": "0s:(0.5), 10s:(1)"}
    assert "strength" not in look.values
    theatre.director.schedule("strength", "")
    assert theatre.after(5.0).strength == pytest.approx(0.75)
    assert theatre.store.values()["strength"] == pytest.approx(0.75)
