"""Who gives the beat: our own tempo, or another clock that comes, jumps, and goes."""

from __future__ import annotations

import pytest
from support.theatre import Theatre

from bridge.show.tempo import Line, Tempo


class Song:
    """Another clock, as a `Leader`."""

    def __init__(self, theatre: Theatre, bpm: float, placed: bool = True) -> None:
        self._theatre, self.bpm, self.placed = theatre, bpm, placed
        self.mark, self.silent = 0, False
        self.pushed: list[float] = []
        self.place(0.0)

    def place(self, beat: float) -> None:
        """This beat of it is now."""
        self._beat, self._at_s = beat, self._theatre.at_ns / 1e9

    def __call__(self, at_s: float) -> Line | None:
        beat = self._beat + (at_s - self._at_s) * self.bpm / 60.0
        return None if self.silent else Line(beat, self.bpm, self.placed, self.mark)


@pytest.fixture
def theatre() -> Theatre:
    return Theatre(tempo=120.0, tempo_source="midi")


def beat(theatre: Theatre) -> float:
    return theatre.director.drives.tempo.beat(theatre.at_ns / 1e9)


def lend(theatre: Theatre, **more: object) -> Song:
    song = Song(theatre, 90.0, **more)  # type: ignore[arg-type]
    theatre.director.baton.lend("midi", song)
    theatre.frame()
    return song


def test_the_count_of_beats_goes_on_when_a_song_begins_and_takes_its_place_in_the_bar(theatre: Theatre) -> None:
    theatre.after(61.3)
    before = beat(theatre)
    song = lend(theatre)
    assert abs(beat(theatre) - before) <= 2.0  # half a bar
    assert beat(theatre) % 4 == pytest.approx(0.0, abs=1e-6)
    theatre.after(2.0)
    assert beat(theatre) % 4 == pytest.approx(3.0, abs=1e-6)
    for place in (400.5, 0.0, 7.75):
        before = beat(theatre)
        song.place(place)
        song.mark += 1
        theatre.frame()
        assert abs(beat(theatre) - before) <= 2.0
        assert beat(theatre) % 4 == pytest.approx(place % 4, abs=1e-6)


def test_a_clock_that_does_not_know_its_bar_moves_no_beat(theatre: Theatre) -> None:
    theatre.after(1.3)
    before = beat(theatre)
    song = lend(theatre, placed=False)
    assert beat(theatre) == pytest.approx(before)
    theatre.after(1.0)
    assert beat(theatre) == pytest.approx(before + 1.5)
    song.place(1000.0)
    theatre.frame()
    assert beat(theatre) == pytest.approx(before + 1.5)


def test_where_it_falls_silent_the_beat_goes_on_as_it_was_and_the_row_says_so(theatre: Theatre) -> None:
    song = lend(theatre)
    assert theatre.gauge("beat.from") == "midi"
    theatre.after(0.1)
    before = beat(theatre)
    song.silent = True
    for _ in range(20):
        theatre.after(0.1)
    assert theatre.frame().tempo == 90.0
    assert beat(theatre) == pytest.approx(before + 3.0, abs=1e-6)
    assert theatre.gauge("beat.from") == "own"
    theatre.store.set("tempo", 60.0, at_ns=theatre.at_ns)  # now it is ours again
    before = (theatre.frame(), beat(theatre))[1]
    theatre.after(1.0)
    assert beat(theatre) == pytest.approx(before + 1.0)


def test_nobody_leads_but_who_is_named(theatre: Theatre) -> None:
    lend(theatre)
    theatre.store.set("tempo_source", "own", at_ns=theatre.at_ns)
    theatre.frame()
    before = beat(theatre)
    theatre.director.tick()
    theatre.after(1.0)
    assert beat(theatre) - before == pytest.approx(2.0, abs=0.6)
    assert theatre.gauge("beat.from") == "own"
    theatre.store.set("tempo_source", "link", at_ns=theatre.at_ns)
    theatre.frame()
    assert theatre.gauge("error") == "tempo_source is link, but it is not there: start with --link"


def test_a_clock_that_takes_orders_gets_them_and_one_that_takes_none_is_told_again(theatre: Theatre) -> None:
    song = lend(theatre)
    theatre.director.tick()
    assert theatre.frame().tempo == 90.0
    theatre.store.set("tempo", 140.0, at_ns=theatre.at_ns)
    theatre.director.tick()
    assert theatre.frame().tempo == 90.0

    def push(bpm: float) -> None:
        song.pushed.append(bpm)
        song.bpm = bpm

    theatre.director.baton.lend("midi", song, push)
    theatre.store.set("tempo", 140.0, at_ns=theatre.at_ns)
    assert song.pushed == [140.0]
    theatre.after(0.1)
    theatre.director.tick()
    assert theatre.frame().tempo == 140.0
    song.bpm = 141.5  # somebody else's
    theatre.after(0.1)
    theatre.director.tick()
    assert theatre.frame().tempo == 141.5
    assert song.pushed == [140.0]


def test_taps_set_the_tempo_of_a_leader_and_leave_its_beat(theatre: Theatre) -> None:
    song = lend(theatre)
    song.place(0.0)
    pushed: list[float] = []
    theatre.director.baton.lend("midi", song, pushed.append)
    theatre.frame()
    theatre.director.tick()
    for _ in range(3):
        theatre.after(0.5)
        theatre.director.tap()
    assert pushed[-1] == pytest.approx(120.0)
    assert beat(theatre) % 4 == pytest.approx(2.25, abs=1e-6)  # 1.5 s of 90


def test_a_downbeat_is_the_sessions_if_it_may_be_and_else_ours_alone(theatre: Theatre) -> None:
    song, free = lend(theatre), True

    def begin() -> bool:
        if free:
            song.place(0.0)
        return free

    theatre.director.baton.lend("midi", song, downbeat=begin)
    theatre.after(0.9)
    theatre.director.downbeat()
    theatre.frame()
    assert beat(theatre) % 4 == pytest.approx(0.0, abs=1e-6)
    assert song(theatre.at_ns / 1e9).beat == pytest.approx(0.0, abs=1e-6)  # type: ignore[union-attr]
    free = False
    theatre.after(0.7)
    theatre.director.downbeat()
    theatre.after(0.0)
    theatre.after(1.0)  # and it stays so
    assert beat(theatre) % 4 == pytest.approx(1.5, abs=1e-6)


def test_what_waits_for_bars_is_not_sent_back_when_a_song_begins(theatre: Theatre) -> None:
    tempo = Tempo(0.0)
    tempo.follow(600.0, Line(0.0, 120.0, True, 1), 4)
    assert 1198.0 <= tempo.beat(600.0) <= 1202.0
    tempo.follow(601.0, Line(2.0, 120.0, True, 1), 3)  # another bar
    assert tempo.beat(601.0) % 3 == pytest.approx(2.0)
