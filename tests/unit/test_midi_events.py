"""From MIDI's bytes to what somebody did."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ControlError
from bridge.midi.events import FINE, KINDS, PATIENCE_NS, Control, Event, Gather, read_control

mido = pytest.importorskip("mido")


def change(number: int, value: int, channel: int = 0) -> Any:
    return mido.Message("control_change", control=number, value=value, channel=channel)


def said(gather: Gather, *messages: Any, at_ns: int = 0) -> list[tuple[str, int]]:
    return [(str(e.control), e.raw) for message in messages for e in gather.take(message, at_ns)]


def test_each_kind_of_message_is_a_control_at_a_place() -> None:
    message, gather = mido.Message, Gather()
    events = [
        event
        for one in (
            change(21, 64, 2),
            message("note_on", note=36, velocity=100, channel=9),
            message("note_on", note=36, velocity=0, channel=9),
            message("note_off", note=36, velocity=64, channel=9),
            message("pitchwheel", pitch=8191),
            message("pitchwheel", pitch=-8192),
            message("aftertouch", value=127),
            message("program_change", program=5),
            message("start"),
            message("clock"),
            message("sysex", data=(1, 2)),
        )
        for event in gather.take(one, 0)
    ]
    assert [(str(e.control), e.raw, e.pressed) for e in events if e.control.kind != "cc14"] == [
        ("ch 3 cc 21", 64, None),
        ("ch 10 note 36", 100, True),
        ("ch 10 note 36", 0, False),
        ("ch 10 note 36", 0, False),
        ("ch 1 pitch", FINE, None),
        ("ch 1 pitch", 0, None),
        ("ch 1 pressure", 127, None),
        ("ch 1 program 5", 5, True),
        ("start", 1, True),
    ]
    assert all(0.0 <= event.value <= 1.0 for event in events)


@given(st.lists(st.integers(0, FINE), min_size=1, max_size=40), st.booleans())
@settings(derandomize=True)
def test_a_pair_gives_every_value_that_was_sent_and_none_between(values: list[int], short: bool) -> None:
    """Coarse, then fine; `short`: the coarse byte is left out where it is the same, as the standard allows."""
    gather, last, seen = Gather(), -1, []
    gather.take(change(33, 0), 0)  # the device has shown that it has fine values
    for value in values:
        coarse, fine = value >> 7, value & 127
        if coarse != last or not short:
            seen += gather.take(change(1, coarse), 0)
        seen += gather.take(change(33, fine), 0)
        last = coarse
    wide = [event.raw for event in seen if event.control.kind == "cc14"]
    assert wide == values
    assert {str(event.control) for event in seen if event.control.kind == "cc14"} == {"ch 1 cc14 1"}


def test_a_coarse_value_alone_counts_once_its_time_is_over() -> None:
    gather = Gather()
    gather.take(change(1, 5), 0)
    gather.take(change(33, 77), 0)
    assert said(gather, change(1, 6), at_ns=1000) == [("ch 1 cc 1", 6)]
    assert gather.waiting
    assert gather.flush(PATIENCE_NS) == []
    assert [(str(e.control), e.raw) for e in gather.flush(1000 + PATIENCE_NS)] == [("ch 1 cc14 1", 6 << 7)]
    assert not gather.waiting
    assert gather.flush(10**12) == []


def test_a_device_without_fine_values_is_not_kept_waiting() -> None:
    gather = Gather()
    assert ("ch 1 cc14 7", 127) in said(gather, change(7, 127))
    assert not gather.waiting


def test_nrpn_is_chosen_per_channel_and_hides_what_carries_it() -> None:
    gather = Gather()
    assert ("ch 1 cc 6", 3) in said(gather, change(6, 3))
    said(gather, change(99, 2), change(98, 5))
    assert said(gather, change(6, 100)) == [("ch 1 nrpn 261", 100)]
    assert said(gather, change(38, 1)) == [("ch 1 nrpn 261", 100 << 7 | 1)]
    assert ("ch 2 cc 6", 9) in said(gather, change(6, 9, 1))
    said(gather, change(101, 127), change(100, 127))  # none is chosen any more
    assert ("ch 1 cc 6", 50) in said(gather, change(6, 50))


@pytest.mark.parametrize("text", ["cc 21", "ch 16 note 127", "cc14 31", "nrpn 16383", "pitch", "program", "program 3"])
def test_a_controls_text_is_read_as_it_is_written(text: str) -> None:
    assert str(read_control(f"  {text.upper()} ")) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a control is"),
        ("knob 3", "a control is"),
        ("cc", "takes a number from 0 to 127"),
        ("cc 128", "takes a number from 0 to 127"),
        ("cc14 32", "from 0 to 31"),
        ("pitch 3", "takes no number"),
        ("ch 17 cc 1", "a channel is 1 to 16"),
        ("ch 0 cc 1", "a channel is 1 to 16"),
    ],
)
def test_what_is_no_control_is_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ControlError, match=says):
        read_control(text)


def test_a_control_without_channel_or_number_covers_all() -> None:
    on = Control("cc", 21, 3)
    assert read_control("cc 21").covers(on)
    assert read_control("ch 3 cc 21").covers(on)
    assert not read_control("ch 4 cc 21").covers(on)
    assert not read_control("cc 22").covers(on)
    assert not read_control("note 21").covers(on)
    assert read_control("program").covers(Control("program", 9, 1))
    assert not read_control("program 8").covers(Control("program", 9, 1))


@given(st.binary(max_size=60))
@settings(derandomize=True, max_examples=200)
def test_whatever_a_device_sends_every_event_is_in_range(data: bytes) -> None:
    parser, gather = mido.Parser(), Gather()
    parser.feed(data)
    for message in parser:
        for event in gather.take(message, 0):
            assert isinstance(event, Event)
            assert event.control.kind in KINDS
            assert 0.0 <= event.value <= 1.0
            assert read_control(str(event.control)) == event.control
