"""What a page may say: typed, capped, and nothing else gets past the decoder."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import ControlError
from bridge.web.catalogue import rows
from bridge.web.messages import HEADER, MAX_MESSAGE_BYTES, Ack, Change, Command, Set, Stats, Watch, decode, encode
from pipelines.params import MAX_TEXT_BYTES, table


def test_each_message_has_its_type() -> None:
    assert decode('{"type":"set","values":{"strength":0.7},"seconds":2}') == Set({"strength": 0.7}, 2.0)
    assert decode('{"type":"watch","shelves":["output"]}') == Watch(("output",))
    assert decode('{"type":"ack","shelf":"input","number":7}') == Ack("input", 7)
    assert decode('{"type":"command","name":"reset"}') == Command("reset")


def test_values_keep_their_types() -> None:
    message = decode('{"type":"set","values":{"a":true,"b":1,"c":1.5,"d":"x"}}')
    assert isinstance(message, Set)
    assert [type(value) for value in message.values.values()] == [bool, int, float, str]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"type":"shutdown"}',
        '{"type":"set"}',
        '{"type":"set","values":{"a":null}}',
        '{"type":"set","values":{"a":[1]}}',
        '{"type":"set","values":{"a":NaN}}',
        '{"type":"set","values":{"a":1e999}}',
        '{"type":"set","values":{"a":1},"seconds":-1}',
        '{"type":"set","values":{"a":1},"seconds":1e9}',
        '{"type":"set","values":{"a":1},"path":"/etc/passwd"}',
        '{"type":"ack","shelf":"../output","number":1}',
        '{"type":"watch","shelves":["secrets"]}',
        "[" * 8000,
        '{"type":"set","values":' + '{"a":' * 3000,
    ],
)
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ControlError):
        decode(text)


def test_the_longest_prompt_fits_however_it_is_escaped() -> None:
    prompt = "\x7f" * MAX_TEXT_BYTES
    text = json.dumps({"type": "set", "values": {"prompt": prompt}}).replace("\x7f", "\\u007f")
    assert decode(text) == Set({"prompt": prompt})
    with pytest.raises(ControlError, match=str(MAX_MESSAGE_BYTES)):
        decode(" " * (MAX_MESSAGE_BYTES + 1))


@given(st.text() | st.from_regex(r'\{"type":"(set|ack|watch|command)".*', fullmatch=True))
@example('{"type":"set","values":{"a":' + "9" * 400 + "}}")
@example('"\\ud800"')
def test_only_our_error_comes_out(text: str) -> None:
    try:
        decode(text)
    except ControlError:
        pass


def test_messages_to_the_page_name_their_type() -> None:
    assert json.loads(encode(Change({"seed": 3}, {})))["type"] == "change"
    assert "stats" in Stats.__struct_config__.tag


def test_every_row_of_the_table_is_a_control() -> None:
    drawn = {row.name: row for row in rows()}
    assert list(drawn) == list(table())
    for name, spec in table().items():
        row = drawn[name]
        assert (row.default, row.doc, row.low, row.high) == (spec.default, spec.doc, spec.low, spec.high)
        if spec.choices:
            assert [choice.id for choice in row.choices] == list(spec.choices)
    assert drawn["width"].step == 64
    assert "pocket" in [choice.id for choice in drawn["model"].choices]
    assert msgspec.json.encode(rows())


def test_the_header_is_as_the_page_reads_it() -> None:
    """Offsets that static/pictures.js has in its source."""
    packed = HEADER.pack(1, 1, HEADER.size, 10, 20, 30, 1.5, 2.5)
    assert len(packed) == 32
    assert int.from_bytes(packed[2:4], "little") == 32
    assert [int.from_bytes(packed[at : at + 4], "little") for at in (4, 8, 12)] == [10, 20, 30]
