"""A beat out of MIDI clock, in simulated time: jitter, steps, starts, silence."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from bridge.midi.clock import PER_BEAT, SILENT_S, Clock
from bridge.midi.clocks import GONE_S, Clocks

T0 = 1e6


class Player:
    """A machine that ticks. `late`: standard deviation of the delay of a tick, seconds; its seed is fixed."""

    def __init__(self, bpm: float, late: float = 0.0) -> None:
        self.clock, self.at_s, self.bpm, self.count = Clock(), T0, bpm, 0
        self._late, self._random = late, random.Random(11)

    def play(self, beats: float, each: Callable[[float], None] | None = None) -> None:
        for _ in range(round(beats * PER_BEAT)):
            delay = self._random.gauss(0.0, self._late) if self._late else 0.0
            self.clock.tick(self.at_s + delay)
            if each is not None:
                each(self.at_s)
            self.at_s += 60.0 / self.bpm / PER_BEAT
            self.count += 1

    @property
    def line(self) -> Any:
        line = self.clock.line(self.at_s)
        assert line is not None
        return line


@pytest.mark.parametrize("bpm", [24.0, 60.0, 119.97, 174.0, 300.0])
def test_a_steady_stream_gives_its_tempo_and_beat_exactly(bpm: float) -> None:
    player = Player(bpm)
    player.clock.start()
    player.play(4)
    assert player.line.bpm == pytest.approx(bpm, rel=1e-6)
    assert player.line.beat == pytest.approx(4.0, abs=1e-4)
    assert player.line.placed


@pytest.mark.parametrize("late", [0.001, 0.003, 0.006])
def test_jitter_moves_the_tempo_by_little_and_the_beat_by_less_than_itself(late: float) -> None:
    player = Player(120.0, late)
    player.clock.start()
    player.play(8)
    tempos: list[float] = []
    beats: list[float] = []

    def note(at_s: float) -> None:
        line = player.clock.line(at_s)
        assert line is not None
        tempos.append(line.bpm - 120.0)
        beats.append((line.beat - player.count / PER_BEAT) * 0.5)

    player.play(64, note)
    # Where raw intervals would be off by late / 20.8 ms, that is 6 to 35 beats a minute.
    assert max(map(abs, tempos)) < 100 * late
    assert max(map(abs, beats)) < 0.75 * late


@pytest.mark.parametrize(("before", "after"), [(120.0, 150.0), (174.0, 87.0), (90.0, 91.0), (60.0, 240.0)])
def test_another_tempo_is_followed_within_four_beats_and_the_beat_stays_in_step(before: float, after: float) -> None:
    player = Player(before, 0.0005)
    player.clock.start()
    player.play(16)
    player.bpm = after
    off = []
    player.play(4, lambda at_s: off.append(player.clock.line(at_s).beat - player.count / PER_BEAT))  # type: ignore[union-attr]
    assert max(map(abs, off)) < 2 / PER_BEAT
    assert player.line.bpm == pytest.approx(after, abs=0.5)
    assert player.line.beat == pytest.approx(20.0, abs=0.01)


def test_a_slow_change_is_followed_all_along() -> None:
    player = Player(120.0, 0.001)
    player.clock.start()
    player.play(8)
    for _ in range(20):
        player.bpm -= 1.0
        player.play(1)
        assert player.line.beat == pytest.approx(player.count / PER_BEAT, abs=0.03)
        assert player.line.bpm == pytest.approx(player.bpm, abs=3.5)


def test_start_continue_and_song_position_place_the_beat() -> None:
    player = Player(120.0)
    player.play(2.5)
    assert not player.line.placed  # somewhere in a song: the bar is unknown
    first = player.line.mark
    player.clock.start()
    player.play(1)
    assert (player.line.placed, player.line.beat) == (True, pytest.approx(1.0))
    assert player.line.mark != first
    player.clock.stop()
    player.play(3)  # many go on ticking; the beat goes on, the song does not
    assert player.line.beat == pytest.approx(4.0)
    player.clock.resume()
    player.play(1)
    assert player.line.beat == pytest.approx(2.0)
    player.clock.stop()
    player.clock.position(32)  # sixteenths: beat 8
    assert player.line.beat == pytest.approx(2.0)
    player.clock.resume()
    player.play(0.5)
    assert player.line.beat == pytest.approx(8.5)
    player.clock.position(0)
    player.play(0.5)
    assert player.line.beat == pytest.approx(0.5)


def test_silence_is_noticed_and_the_stream_taken_up_again() -> None:
    player = Player(120.0)
    player.play(4)
    assert player.clock.line(player.at_s + SILENT_S - 0.03) is not None
    assert player.clock.line(player.at_s + SILENT_S) is None
    player.at_s, player.bpm = player.at_s + 60.0, 100.0
    player.play(0.4)
    assert player.clock.line(player.at_s) is None  # not enough of it yet
    player.play(0.2)
    assert player.line.bpm == pytest.approx(100.0)


def test_ticks_that_come_in_bunches_make_no_harm() -> None:
    """Bluetooth: three at once."""
    clock, period = Clock(), 60.0 / 128.0 / PER_BEAT
    clock.start()
    for n in range(8 * PER_BEAT):
        clock.tick(T0 + (n - n % 3 + 2) * period)
    line = clock.line(T0 + 8 * PER_BEAT * period)
    assert line is not None
    assert line.bpm == pytest.approx(128.0, abs=0.3)
    assert line.beat == pytest.approx(8.0, abs=3 / PER_BEAT)


def test_of_several_clocks_the_first_counts_until_it_is_gone() -> None:
    mido = pytest.importorskip("mido")
    tick, clocks = mido.Message("clock"), Clocks()

    def times(bpm: float, since: float, seconds: float) -> list[float]:
        period = 60.0 / bpm / PER_BEAT
        return [since + n * period for n in range(round(seconds / period))]

    both = [(at, "drums") for at in times(90.0, T0, 8.0)] + [(at, "synth") for at in times(120.0, T0 + 0.001, 8.0)]
    for at, port in sorted(both):
        assert clocks.take(port, tick, at)
    line = clocks.line(T0 + 8.0)
    assert line is not None
    assert line.bpm == pytest.approx(90.0)
    later = T0 + 8.0 + GONE_S
    for at in times(120.0, later, 4.0):
        clocks.take("synth", tick, at)
    line = clocks.line(later + 4.0)
    assert line is not None
    assert line.bpm == pytest.approx(120.0)
    assert not clocks.take("synth", mido.Message("note_on", note=1), later)
    assert not clocks.take("synth", mido.Message("start"), later)  # which may be bound, too


def test_the_clock_that_is_named_is_the_only_one() -> None:
    mido = pytest.importorskip("mido")
    clocks = Clocks("Drum")
    for n in range(48):
        clocks.take("synth", mido.Message("clock"), T0 + n / 48)
    assert clocks.line(T0 + 1) is None
    for n in range(48):
        clocks.take("My drum machine", mido.Message("clock"), T0 + n / 48)
    assert clocks.line(T0 + 1) is not None
