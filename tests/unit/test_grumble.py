"""Complaints in measure."""

from __future__ import annotations

import pytest

from bridge.clock import NS
from bridge.grumble import ERRORS_PER_S, Grumble


def test_a_line_a_second_with_the_count_of_all(caplog: pytest.LogCaptureFixture) -> None:
    grumble = Grumble()
    grumble.log(5 * NS)
    assert not caplog.messages
    for tenth in range(25):
        grumble.count += 100
        grumble.last = f"number {tenth}"
        grumble.log(5 * NS + tenth * NS // 10)
    assert [message.split(";")[0] for message in caplog.messages] == [
        "refused 100 OSC messages",
        "refused 1000 OSC messages",
        "refused 1000 OSC messages",
    ]
    assert caplog.messages[1].endswith("number 10")


def test_so_many_answers_a_second_and_no_more_saved_up() -> None:
    grumble = Grumble()
    assert sum(grumble.may_answer(NS) for _ in range(100)) == ERRORS_PER_S
    assert not grumble.may_answer(NS)
    assert sum(grumble.may_answer(NS + NS // 2) for _ in range(100)) == ERRORS_PER_S // 2
    assert sum(grumble.may_answer(1000 * NS) for _ in range(100)) == ERRORS_PER_S
