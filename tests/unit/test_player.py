"""A cue list in time: by hand, by waits in seconds and beats, repeated, held, edited. No thread, no real clock."""

from __future__ import annotations

import math
import random

import pytest
from support.theatre import write_show

from bridge.errors import ConfigError, ControlError
from bridge.show.cues import Cue, Show, as_toml, checked, files, read_show, save_show, span
from bridge.show.player import Player
from bridge.show.tempo import Tempo


def player(*cues: Cue, loop: bool = False, bpm: float = 120.0) -> Player:
    return Player(checked(Show(cue=cues, loop=loop)), Tempo(0.0, bpm))


def names(fired: list) -> list[str]:  # type: ignore[type-arg]
    return [fire.cue.name for fire in fired]


def test_go_fires_one_after_the_other_and_says_when_the_list_is_over() -> None:
    made = player(Cue(name="a"), Cue(name="b"))
    assert made.advance(1.0) == []
    made.go(1.0)
    assert names(made.advance(1.0)) == ["a"]
    made.go(2.0)
    assert names(made.advance(2.5)) == ["b"]
    with pytest.raises(ControlError, match="the cue list is over"):
        made.go(3.0)
    made.back(3.0)
    assert names(made.advance(3.0)) == ["a"]
    made.jump(made.find("b"), 4.0)
    assert names(made.advance(4.0)) == ["b"]


def test_waits_count_from_a_cues_own_time_however_late_it_was_looked_at() -> None:
    made = player(Cue(name="a", wait=1), Cue(name="b", wait="4 beats"), Cue(name="c", wait="1 bar"), Cue(name="d"))
    made.go(10.0)
    seen = [(fire.cue.name, fire.at_s) for t in (10.0, 10.9, 17.0) for fire in made.advance(t)]
    assert [name for name, _ in seen] == ["a", "b", "c", "d"]
    assert [at for _, at in seen] == pytest.approx([10.0, 11.0, 13.0, 15.0])
    assert made.due_s(17.0) == math.inf


def test_a_wait_in_beats_follows_the_tempo() -> None:
    made = player(Cue(name="a", wait="8 beats"), Cue(name="b"))
    made.go(0.0)
    made.advance(0.0)
    made._tempo.turn(2.0, 60.0, 4)
    assert made.due_s(2.0) == pytest.approx(6.0)
    assert made.advance(5.9) == []
    assert made.advance(6.1)[0].at_s == pytest.approx(6.0)


def test_a_go_waits_for_the_bar_if_its_cue_does() -> None:
    made = player(Cue(name="a", quantise="bar"), Cue(name="b", quantise="beat"), bpm=60)
    made.go(1.5)
    assert made.next_s(1.5) == pytest.approx(4.0)
    assert made.advance(3.9) == []
    assert made.advance(4.01)[0].at_s == pytest.approx(4.0)
    made.go(4.2)
    assert made.advance(5.2)[0].at_s == pytest.approx(5.0)


def test_loops_and_repeats() -> None:
    made = player(Cue(name="a", wait=1), Cue(name="b", wait=1, next="a", times=2), Cue(name="c", wait=1), loop=True)
    made.go(0.0)
    assert "".join(names(made.advance(13.0))) == "abababcabababc"
    by_hand = player(Cue(name="a"), Cue(name="b", next="a", times=1), Cue(name="c"))
    out = []
    for t in range(5):
        by_hand.go(float(t))
        out += names(by_hand.advance(float(t)))
    assert "".join(out) == "ababc"


def test_hold_lets_no_time_pass() -> None:
    made = player(Cue(name="a", wait=4), Cue(name="b", wait="8 beats"), Cue(name="c"))
    made.go(0.0)
    made.advance(0.0)
    made.hold(True, 1.0)
    assert made.held
    assert made.advance(100.0) == []
    made.hold(False, 101.0)
    assert made.due_s(101.0) == pytest.approx(104.0)
    assert made.advance(104.0)[0].at_s == pytest.approx(104.0)
    made.hold(True, 105.0)
    made.hold(False, 125.0)
    assert made.due_s(125.0) == pytest.approx(128.0)


def test_a_list_is_replaced_under_the_cue_that_is_on() -> None:
    made = player(Cue(name="a", wait=4), Cue(name="b"))
    made.go(0.0)
    made.advance(0.0)
    made.replace(checked(Show(cue=(Cue(name="new"), Cue(name="a", wait=6), Cue(name="z")))))
    assert made.index == 1
    assert made.due_s(1.0) == 6.0
    assert names(made.advance(6.0)) == ["z"]
    made.replace(checked(Show(cue=(Cue(name="only"),))))
    assert made.index == 0


def test_no_list_fires_without_end_at_one_look() -> None:
    made = player(Cue(name="a", wait=0.01), loop=True)
    made.go(0.0)
    assert len(made.advance(1e6)) == 256


def test_a_long_show_drifts_by_nothing() -> None:
    rng = random.Random(3)
    made = player(*(Cue(name=f"c{i}", wait="3 beats") for i in range(7)), loop=True, bpm=97.3)
    made.go(0.0)
    fired, t = [], 0.0
    while t < 3600.0:
        fired += made.advance(t)
        t += rng.uniform(0.001, 0.05)
    beats = [fire.at_s * 97.3 / 60 / 3 for fire in fired]
    assert len(beats) > 1900
    assert beats == pytest.approx([float(i) for i in range(len(beats))], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"1 to 1000 cues"),
        ("[[cue]]\nlok = 'x'\n", "lok"),
        ("[[cue]]\nwait = 0\n", "cue 1: a wait is at least"),
        ("[[cue]]\nwait = 'soon'\n", "cue 1: wait is seconds"),
        ("[[cue]]\nmove = -1\n", "cue 1: move is seconds"),
        ("[[cue]]\nname = '3'\n", "is no number"),
        ("[[cue]]\nname = 'a'\n[[cue]]\nname = 'a'\n", "no other cue"),
        ("[[cue]]\nnext = 'b'\n", "there is no cue 'b'"),
        ("[[cue]]\n[cue.params]\nstrength = 3\n", "cue 1: params.strength"),
        ("[[cue]]\nschedule = { strength = '0:(' }\n", "cue 1: schedule.strength"),
        ("[[cue]]\ncurve = 'wild'\n", "curve"),
    ],
)
def test_a_file_that_is_wrong_says_where(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_show(write_show("wrong", text))


def test_a_show_is_saved_and_read_back() -> None:
    cue = Cue(name='quote"', look="calm", move="2 beats", wait=4.5, params={"prompt": "a\n\x7fé", "bypass": True})
    show = Show(name="mine", title="T", loop=True, cue=(cue, Cue(schedule={"strength": "lfo sine 4s"})))
    assert read_show(save_show(show, "mine")) == show
    assert "mine" in files()
    assert 'move = "2 beats"' in as_toml(show)


def test_spans() -> None:
    assert [span(text)[:] for text in (4, "1.5s", "8 beats", "1 bar", "2b", "3")] == [
        (4.0, "s"), (1.5, "s"), (8.0, "beat"), (1.0, "bar"), (2.0, "beat"), (3.0, "s"),
    ]  # fmt: skip
    for wrong in (True, math.nan, -1, "x", "1 week", "1e3"):
        with pytest.raises(ControlError):
            span(wrong)


def test_every_shipped_show_can_be_played() -> None:
    assert files()
    for path in files().values():
        read_show(path)


# The beat


def test_taps_give_the_tempo_and_put_the_beat_under_the_finger() -> None:
    tempo = Tempo(0.0)
    assert tempo.tap(0.3) is None
    assert tempo.tap(0.9) == pytest.approx(100.0)
    assert tempo.tap(1.5) == pytest.approx(100.0)
    assert tempo.beat(1.5) % 1 == pytest.approx(0.0, abs=1e-9)
    assert tempo.tap(60.0) is None  # long after: another count


def test_a_tempo_bends_and_a_downbeat_begins_a_bar() -> None:
    tempo = Tempo(0.0, 120.0)
    tempo.turn(2.0, 60.0, 4)
    assert tempo.beat(2.0) == pytest.approx(4.0)
    assert tempo.beat(3.0) == pytest.approx(5.0)
    tempo.downbeat(3.0)
    assert tempo.beat(3.0) == pytest.approx(4.0)
    assert tempo.bar(3.0) == 1
    assert tempo.next_after(3.5, 1.0) == pytest.approx(4.0)
    assert tempo.next_after(3.0, 4.0) == pytest.approx(3.0)
