"""Whatever is sent to a show: it is done, or refused with a sentence, and nothing else is ever raised."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.theatre import Theatre, write_look, write_show

from bridge.errors import LiveLatentError
from bridge.show.act_list import ACTS
from bridge.show.acts import Acts
from pipelines.drive import Instant, Shared, compile_drive
from pipelines.expr import ExprError

ADDRESSES = sorted(
    {name.replace("<parameter>", "strength").replace("<name>", "kick").replace("<address>", "mix") for name in ACTS}
    | {"schedule/sampler", "schedule/bypass", "schedule/width", "next/beat/cue/go", "next/bar/look/recall"}
)
WORDS = st.sampled_from(
    (
        *(
            "a",
            "b",
            "low",
            "calm",
            "mine",
            "look",
            "move",
            "wait",
            "next",
            "times",
            "curve",
            "name",
            "hand",
            "ease",
            "bar",
        ),
        *("2 bars", "1", "0:(t), 9:(1)", "lfo sine 4s", "env 0s 1s 1s kick", "map kick 0 1", "../x", "", "\0", "é"),
    )
)
ARGS = st.one_of(WORDS, st.text(max_size=20), st.floats(), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none())
PIECES = st.sampled_from(
    [
        *'0123456789.:,()"+-*/%<>& tsb',
        "max_f",
        "sin(",
        "where(",
        "in.kick",
        "lfo ",
        "env ",
        "map ",
        "4s ",
        "1bar ",
        "0:(",
    ]
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("fuzz"))


@given(st.lists(st.tuples(st.sampled_from(ADDRESSES), st.lists(ARGS, max_size=5)), max_size=12))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_no_message_breaks_a_show(
    home: str, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, list[object]]]
) -> None:
    monkeypatch.setenv("LIVELATENT_HOME", home)
    write_look("low", "[params]\nstrength = 0.1\n")
    write_show(
        "mine", "[[cue]]\nname = 'a'\nlook = 'low'\nwait = 0.01\n[[cue]]\nname = 'b'\nschedule = { mix = 't' }\n"
    )
    theatre = Theatre()
    acts = Acts(theatre.director)
    theatre.director.load("mine")
    theatre.director.go()
    for address, args in said:
        act = acts.find(address)
        assert act is not None
        try:
            answer = act(args, None)
            assert answer is None or all(isinstance(word, (str, float)) for word in answer)
        except LiveLatentError:
            pass
        frame = theatre.after(0.02)
        assert 0.0 <= frame.strength <= 1.0
    theatre.director.tick()


@given(
    st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map("".join)), st.one_of(st.none(), st.floats(1, 1e6))
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_a_schedule_is_read_or_refused_and_its_values_never_raise(text: str, length: float | None) -> None:
    try:
        drive = compile_drive(text, length=length)
    except ExprError:
        return
    for seconds in (0.0, 0.1, 3.0, 1e6):
        values = {
            "beat": seconds,
            "bar": 0.0,
            "phase": 0.0,
            "in.kick": 0.7,
            "seed": 1.0,
            "s": 1.0,
            "strength": 0.5,
            "fps": 15.0,
        }
        value = drive(Instant(seconds, seconds * 15, seconds * 2), Shared(values, 4.0))
        assert isinstance(value, (str, float))
