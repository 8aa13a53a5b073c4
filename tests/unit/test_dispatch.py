"""What an OSC message means, without a socket."""

from __future__ import annotations

import pytest

from bridge.dispatch import COMMANDS, MAX_COMPLAINTS, MAX_REPLIES, Batch, Dispatch, answer
from bridge.osc import IMMEDIATELY, Message, build, bundle, message
from bridge.oscargs import Impulse
from bridge.store import ParamStore
from bridge.telemetry import READINGS
from pipelines.params import Params, table

ME = ("127.0.0.1", 5000)


@pytest.fixture
def store() -> ParamStore:
    none = {kind: lambda: ("none",) for kind in ("controlnets", "loras", "ipadapters")}
    return ParamStore(Params(), {"models": lambda: ("pocket", "sd-turbo"), **none})


@pytest.fixture
def dispatch(store: ParamStore) -> Dispatch:
    return Dispatch("/ll", store, {"restart": lambda: None})


def take(dispatch: Dispatch, *packets: Message | bytes) -> Batch:
    batch = Batch()
    for packet in packets:
        dispatch.take(packet if isinstance(packet, bytes) else build(packet), ME, batch)
    return batch


def test_every_row_takes_its_default_and_answers_to_its_name(dispatch: Dispatch) -> None:
    for name, spec in table().items():
        batch = take(dispatch, answer("/ll", name, spec.default), message(f"/ll/{spec.address}"))
        assert batch.settings[name].value == pytest.approx(spec.default)
        assert list(batch.asked) == [(ME, name)]
        assert not batch.rejected


def test_numbers_arrive_as_they_were_typed(dispatch: Dispatch) -> None:
    for value, shown in ((0.7, 0.7), (0.1, 0.1), (1 / 3, 0.33333334), (0.1234567, 0.1234567), (1e-12, 1e-12)):
        setting = take(dispatch, message("/ll/strength", value)).settings["strength"]
        assert setting.value == shown
        assert build(message("/x", setting.value)) == build(message("/x", value))
    assert take(dispatch, message("/ll/seed", 16777215.0)).settings["seed"].value == 16777215
    assert take(dispatch, Message("/ll/strength", "d", (1 / 3,))).settings["strength"].value == 1 / 3


def test_values_that_32_bits_can_not_round_are_left_to_the_table(dispatch: Dispatch) -> None:
    for bits in ("7f7fffff", "ff7fffff", "7fc00000", "7f800000", "00000001"):
        data = b"/ll/strength\0\0\0\0,f\0\0" + bytes.fromhex(bits)
        batch = take(dispatch, data)
        assert batch.messages == 1
        assert ("strength" in batch.settings) == (bits == "00000001")


def test_seconds_and_sender_travel_along(dispatch: Dispatch) -> None:
    setting = take(dispatch, message("/ll/strength", 0.7, 2)).settings["strength"]
    assert (setting.value, setting.over_s, setting.origin) == (0.7, 2.0, ME)


def test_the_last_valid_value_wins_over_later_wrong_ones(dispatch: Dispatch) -> None:
    batch = take(
        dispatch, message("/ll/steps", 2), message("/ll/steps", 3), message("/ll/steps", 99), message("/ll/steps", "x")
    )
    assert batch.settings["steps"].value == 3
    assert batch.rejected == {"value": 2}


def test_a_bundle_is_opened_whatever_its_time(dispatch: Dispatch) -> None:
    later = bundle(message("/ll/width", 512), bundle(message("/ll/height", 320)), timetag=0xFFFFFFFF << 32)
    batch = take(dispatch, build(later), build(bundle(message("/ll/steps", 2), timetag=IMMEDIATELY)))
    assert {name: s.value for name, s in batch.settings.items()} == {"width": 512, "height": 320, "steps": 2}


@pytest.mark.parametrize(
    ("packet", "kind", "says"),
    [
        (b"", "packet", "empty"),
        (b"/ll/strength\0\0\0\0", "packet", "no type tag string"),
        (message("/ll/strenght", 1.0), "address", "did you mean /ll/strength?"),
        (message("/other"), "address", "no such address"),
        (message("/ll/*", 1.0), "address", "no such address"),
        (message("/ll/" + "*" * 30, 1.0), "address", "no such address"),
        (message("/ll/stop"), "address", "no such address"),
        (message("/ll/quit"), "address", "no such address"),
        (message("/ll/reload", 1.0), "address", "no such address"),
        (message("/strength", 1.0), "address", "no such address"),
        (message("/ll/strength/", 1.0), "address", "no such address"),
        (message("/ll/strength", "0.5"), "value", "a number, not str"),
        (message("/ll/strength", float("nan")), "value", "finite"),
        (message("/ll/strength", 0.5, 1.0, 2.0), "value", "a value and perhaps seconds"),
        (message("/ll/strength", 0.5, "fast"), "value", "seconds"),
        (message("/ll/strength", Impulse.BANG), "value", "a number"),
        (message("/ll/strength", (0.5,)), "value", "a number"),
        (message("/ll/prompt", b"neon"), "value", "text"),
        (message("/ll/model", "sd_turbo"), "value", "did you mean sd-turbo?"),
        (message("/ll/model", "/etc/passwd"), "value", "there is no"),
        (message("/ll/subscribe", 70_000), "value", "port"),
        (message("/ll/subscribe", "192.0.2.1"), "value", "port"),
        (message("/ll/subscribe", 9001, 0), "value", "seconds"),
        (message("/ll/subscribe", 9001, 1e9), "value", "seconds"),
        (message("/ll/subscribe", 9001, float("nan")), "value", "seconds"),
        (message("/ll/unsubscribe", -1), "value", "port"),
    ],
)
def test_what_is_refused_is_counted_and_explained(
    dispatch: Dispatch, packet: Message | bytes, kind: str, says: str
) -> None:
    batch = take(dispatch, packet)
    assert batch.rejected == {kind: 1}
    assert not any((batch.settings, batch.commands, batch.joins, batch.asked, batch.pongs))
    assert says in dispatch.explain(batch.refusals[0])


def test_telemetry_of_another_bridge_is_never_answered(dispatch: Dispatch) -> None:
    said = [message(f"/ll{row.address}", 1.0) for row in READINGS]
    said += [
        message("/ll/error", "/ll/x", "no such address"),
        message("/ll/pong"),
        message("/ll/subscribed", 9000, 60.0),
    ]
    said += [message("/ll/prompt/tokens", 7)]
    batch = take(dispatch, *said)
    assert batch.rejected == {"address": len(said)}
    assert not batch.refusals
    assert not batch.pongs


def test_a_command_runs_on_press_and_once_a_wake(store: ParamStore) -> None:
    pressed: list[str] = []
    dispatch = Dispatch("/ll", store, {"restart": lambda: pressed.append("restart")})
    for args, runs in (((), 1), ((1.0,), 1), ((True,), 1), ((Impulse.BANG,), 1), ((0.0,), 0), ((0,), 0), ((False,), 0)):
        batch = take(dispatch, *[message("/ll/restart", *args)] * 3)
        assert len(batch.commands) == runs
        for command in batch.commands.values():
            command()
    assert len(pressed) == 4


def test_a_command_without_documentation_is_a_fault_of_ours(store: ParamStore) -> None:
    assert "shutdown" not in COMMANDS
    with pytest.raises(ValueError, match="shutdown"):
        Dispatch("/ll", store, {"shutdown": lambda: None})


def test_a_command_that_is_not_offered_is_no_address(store: ParamStore) -> None:
    assert take(Dispatch("/ll", store, {}), message("/ll/restart")).rejected == {"address": 1}


def test_whoever_subscribes_is_told_at_its_own_address(dispatch: Dispatch) -> None:
    batch = take(
        dispatch, message("/ll/subscribe"), message("/ll/subscribe", 9001.0, 5), message("/ll/unsubscribe", 9002)
    )
    assert set(batch.joins) == {ME, (ME[0], 9001), (ME[0], 9002)}
    join = batch.joins[ME[0], 9001]
    assert join is not None
    assert (join.target, join.source, join.seconds) == ((ME[0], 9001), ME, 5.0)
    assert batch.joins[ME[0], 9002] is None


def test_a_ping_brings_back_one_number_and_no_more(dispatch: Dispatch) -> None:
    batch = take(
        dispatch,
        message("/ll/ping"),
        message("/ll/ping", 7, 8),
        message("/ll/ping", "x" * 9000),
        message("/ll/ping", True),
    )
    assert [pong for _, pong in batch.pongs] == [
        message("/ll/pong"),
        message("/ll/pong", 7),
        message("/ll/pong"),
        message("/ll/pong", True),
    ]


def test_one_wake_has_bounded_answers_and_complaints(dispatch: Dispatch) -> None:
    flood = build(bundle(*[message("/ll/ping")] * 256, *[message("/nowhere")] * 256))
    batch = take(dispatch, flood, flood)
    assert len(batch.pongs) == MAX_REPLIES
    assert len(batch.refusals) == MAX_COMPLAINTS
    assert batch.messages == 1024
    assert batch.rejected.total() == 1024 - MAX_REPLIES


def test_another_prefix_moves_everything(store: ParamStore) -> None:
    dispatch = Dispatch("/show/a", store, {"restart": lambda: None})
    batch = take(dispatch, message("/show/a/strength", 1), message("/show/a/ping"), message("/show/a/restart"))
    assert batch.settings["strength"].value == 1.0
    assert batch.pongs[0][1].address == "/show/a/pong"
    assert batch.commands
    assert take(dispatch, message("/ll/strength", 1)).rejected == {"address": 1}


def test_nothing_has_two_meanings() -> None:
    params = {f"/{spec.address}" for spec in table().values()}
    commands = {f"/{name}" for name in (*COMMANDS, "get", "ping", "subscribe", "unsubscribe", "pong", "subscribed")}
    readings = {row.address for row in READINGS}
    assert len(params) + len(commands) + len(readings) == len(params | commands | readings)
