"""When another frame is begun: late enough to be a new one, early enough that the card never waits."""

from __future__ import annotations

import pytest

from pipelines.forecast import SLACK_S, Forecast


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def learnt(clock: Clock) -> Forecast:
    forecast = Forecast(clock)
    for _ in range(100):
        forecast.learn(1.0, 10.0)
    return forecast


def test_nothing_is_waited_for_before_anything_is_known(clock):
    forecast = Forecast(clock)
    forecast.begun()
    assert forecast.wait_s() == 0.0


def test_the_next_frame_is_ready_when_the_denoiser_is(clock):
    forecast = learnt(clock)
    forecast.begun()  # its denoiser runs from 1 to 11 ms, and the next frame's first stage takes 1 ms
    assert forecast.wait_s() == pytest.approx(0.010 - SLACK_S, rel=1e-3)
    clock.now = 0.010
    assert forecast.wait_s() == 0.0


def test_a_frame_that_comes_while_the_card_is_busy_waits_for_it(clock):
    forecast = learnt(clock)
    forecast.begun()
    clock.now = 0.0095
    forecast.begun()  # from 11 to 21 ms
    clock.now = 0.0115
    assert forecast.wait_s() == pytest.approx(0.021 - 0.001 - 0.0115 - SLACK_S, rel=1e-3)


def test_one_slow_frame_is_hardly_believed_and_a_fast_one_at_once(clock):
    forecast = learnt(clock)
    forecast.learn(1.0, 1000.0)
    forecast.learn(1.0, 10.0)
    forecast.begun()
    assert forecast.wait_s() < 0.011
    forecast.learn(1.0, 2.0)
    assert forecast.wait_s() <= 0.002
