"""Ableton Link with a real second peer in this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.theatre import Theatre

from bridge.clock import now_ns
from bridge.show.ableton import Ableton

link = pytest.importorskip("link")


def until(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Now(Theatre):
    """A theatre on the clock of this machine, for Link has its own."""

    def frame(self) -> Any:
        self.at_ns = now_ns()
        return super().frame()


@pytest.fixture
def theatre() -> Theatre:
    return Now(tempo=100.0, tempo_source="link")


@pytest.fixture
def ours(theatre: Theatre) -> Iterator[Ableton]:
    theatre.frame()
    made = Ableton(theatre.director, theatre.metrics)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def other(ours: Ableton) -> Iterator[Any]:
    """A peer that comes later, with another tempo. Skips where two can't hear each other, or others are here."""
    peer = link.Link(133.0)
    peer.enabled = True
    met = until(lambda: peer.numPeers(), 5.0)
    if not met:
        pytest.skip("two Link peers of this machine do not hear each other: no multicast here")
    if peer.numPeers() > 1:
        pytest.skip("somebody else plays Link in this network: no test may disturb them")
    yield peer
    peer.enabled = False


def beats(theatre: Theatre, peer: Any) -> tuple[float, float]:
    """Ours and the peer's place in the bar, at one time."""
    theatre.frame()
    at_ns = now_ns()
    micros = peer.clock().micros() - (now_ns() - at_ns) / 1000
    return theatre.director.drives.tempo.beat(at_ns / 1e9), peer.captureAppSessionState().phaseAtTime(int(micros), 4.0)


def apart(theatre: Theatre, peer: Any) -> float:
    here, there = beats(theatre, peer)
    return abs((here - there + 2.0) % 4.0 - 2.0)


def test_alone_it_plays_on_at_our_own_tempo_and_bar(theatre: Theatre, ours: Ableton) -> None:
    if ours._link.numPeers():
        pytest.skip("somebody plays Link in this network")
    tempo, since_s = theatre.director.drives.tempo, now_ns() / 1e9
    before = tempo.beat(since_s)
    theatre.frame()
    at_s = theatre.at_ns / 1e9
    assert theatre.gauge("beat.from") == "link"
    assert tempo.bpm == pytest.approx(100.0, abs=0.01)
    assert tempo.beat(at_s) - before == pytest.approx((at_s - since_s) * 100 / 60, abs=0.01)
    theatre.director.downbeat()
    theatre.frame()
    at_s = theatre.at_ns / 1e9
    assert ours.line(at_s).beat < (now_ns() / 1e9 - at_s + 10) * 100 / 60  # it began a moment ago
    assert (tempo.beat(at_s) - ours.line(at_s).beat + 2) % 4 == pytest.approx(2.0, abs=0.01)


def test_tempo_beat_and_bar_are_shared_in_both_directions(theatre: Theatre, ours: Ableton, other: Any) -> None:
    def told() -> float:
        theatre.frame()
        theatre.director.tick()
        return theatre.frame().tempo

    # Of two sessions the older holds; of two that are almost as old, either.
    assert until(lambda: ours._link.numPeers() == 1)
    assert until(lambda: abs(other.captureAppSessionState().tempo() - told()) < 0.01)
    ours.tick()
    assert theatre.metrics.snapshot()["link.peers"] == 1
    assert until(lambda: apart(theatre, other) < 0.05)

    def set_tempo(bpm: float) -> None:
        state = other.captureAppSessionState()
        state.setTempo(bpm, other.clock().micros())
        other.commitAppSessionState(state)

    set_tempo(124.0)
    assert until(lambda: told() == 124.0)
    assert until(lambda: apart(theatre, other) < 0.05)
    theatre.store.set("tempo", 88.0)
    assert until(lambda: abs(other.captureAppSessionState().tempo() - 88.0) < 0.01)
    assert until(lambda: told() == 88.0)

    # A bar that the other moves is ours; and what we count never jumps back by more than half a bar.
    before = beats(theatre, other)[0]
    state = other.captureAppSessionState()
    state.forceBeatAtTime(2.5, other.clock().micros(), 4.0)
    other.commitAppSessionState(state)
    assert until(lambda: apart(theatre, other) < 0.05)
    assert beats(theatre, other)[0] > before - 2.0

    # Ours alone is a downbeat while others play.
    when = other.captureAppSessionState().timeAtBeat(1000.0, 4.0)
    theatre.director.downbeat()
    assert not ours.downbeat()
    told()
    assert other.captureAppSessionState().timeAtBeat(1000.0, 4.0) == when

    other.enabled = False
    assert until(lambda: not ours._link.numPeers())
    ours.tick()
    assert theatre.metrics.snapshot()["link.peers"] == 0
    assert told() == 88.0
