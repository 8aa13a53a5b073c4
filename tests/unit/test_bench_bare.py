"""What a loop takes over its networks, out of one turn of each."""

from __future__ import annotations

import pytest

from bridge.bench_bare import Round


def test_a_turn_is_held_against_its_own_networks() -> None:
    turn = Round(took=2.0, values={"frame": [40.0, 44.0, 90.0, 41.0, 43.0] * 8}, bare_ms=40.0)
    assert turn.over() == pytest.approx(2000 / 40 / 40 - 1)
    assert turn.worker_over() == pytest.approx(43 / 40 - 1), "one slow picture says nothing"
