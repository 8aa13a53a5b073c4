"""The parameter store: what is accepted, what a frame sees, who is told."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.clock import NS
from bridge.errors import ParamError
from bridge.store import MAX_RAMP_S, ParamStore, Setting
from pipelines.params import Params, pack, table, unpack

MODELS = ("pocket", "sd-turbo", "sdxl-turbo")
IDS = {
    "models": MODELS,
    "controlnets": ("none", "pocket-edge"),
    "loras": ("none", "lcm-sd15"),
    "ipadapters": ("none", "ip-sd15"),
}


def make(**values: object) -> ParamStore:
    ids = {kind: lambda kind=kind: IDS[kind] for kind in IDS}
    return ParamStore(Params(**values), ids)  # type: ignore[arg-type]


# What a frame sees


def test_the_last_value_wins_and_the_version_grows_only_with_a_difference() -> None:
    store = make()
    first = store.snapshot(0)
    assert first.version >= 1
    assert store.snapshot(1) is first
    store.set("strength", 0.1)
    store.set("strength", 0.9)
    second = store.snapshot(2)
    assert (second.strength, second.version) == (0.9, first.version + 1)
    store.set("strength", 0.9)
    assert store.snapshot(3).version == second.version
    store.set("strength", 0.2)
    store.set("strength", 0.9)
    assert store.snapshot(4).version == second.version


def test_a_snapshot_survives_packing() -> None:
    store = make()
    store.set("prompt", "ÄÖ 漢字 🎛")
    assert unpack(pack(store.snapshot())) == store.snapshot()


def test_several_changes_become_visible_together() -> None:
    store = make()
    before = store.snapshot()
    store.set_many({"width": 512, "height": 320, "steps": 4})
    after = store.snapshot()
    assert (after.width, after.height, after.steps) == (512, 320, 4)
    assert after.version == before.version + 1


def test_one_wrong_value_among_several_changes_nothing() -> None:
    store = make()
    before = store.snapshot()
    with pytest.raises(ParamError, match="height"):
        store.set_many({"width": 512, "height": 321})
    assert store.snapshot() == before


def test_seconds_for_many_move_what_can_move() -> None:
    store = make(strength=0.0)
    store.set_many({"strength": 1.0, "sampler": "tcd"}, over_s=2, at_ns=0)
    halfway = store.snapshot(NS)
    assert (halfway.strength, halfway.sampler) == (pytest.approx(0.5), "tcd")


# Ramps


def test_a_ramp_starts_from_where_the_value_is_now() -> None:
    store = make(strength=0.0)
    store.set("strength", 1.0, over_s=2, at_ns=0)
    assert store.snapshot(NS).strength == pytest.approx(0.5)
    store.set("strength", 0.0, over_s=1, at_ns=NS)
    assert store.snapshot(NS + NS // 2).strength == pytest.approx(0.25)
    assert store.snapshot(3 * NS).strength == 0.0


def test_a_new_value_replaces_a_running_ramp() -> None:
    store = make(strength=0.0)
    store.set("strength", 1.0, over_s=10, at_ns=0)
    store.snapshot(NS)
    store.set("strength", 0.3, at_ns=NS)
    assert store.snapshot(2 * NS).strength == store.snapshot(20 * NS).strength == 0.3


def test_setting_the_target_again_ends_the_ramp_there() -> None:
    store = make(strength=0.0)
    store.set("strength", 1.0, over_s=10, at_ns=0)
    assert store.snapshot(NS).strength == pytest.approx(0.1)
    store.set("strength", 1.0, at_ns=NS)
    assert store.snapshot(NS).strength == 1.0


def test_values_tell_where_a_ramp_goes() -> None:
    store = make(strength=0.0)
    store.set("strength", 1.0, over_s=10, at_ns=0)
    assert store.values()["strength"] == 1.0
    assert store.snapshot(0).strength == 0.0


def test_every_step_of_a_ramp_is_a_version_and_the_last_is_exact() -> None:
    store = make(strength=0.0)
    store.set("strength", 0.7, over_s=1, at_ns=0)
    seen = [store.snapshot(t * NS // 10) for t in range(14)]
    assert [p.version for p in seen[:11]] == list(range(seen[0].version, seen[0].version + 11))
    assert seen[-1].version == seen[10].version
    assert seen[-1].strength == 0.7


def test_time_does_not_run_backwards() -> None:
    store = make(strength=0.0)
    store.set("strength", 1.0, over_s=1, at_ns=0)
    late = store.snapshot(NS // 2)
    assert store.snapshot(NS // 4) == late
    store.set("strength", 0.0, over_s=1, at_ns=0)
    assert store.snapshot(NS // 2) == late
    assert store.snapshot(NS).strength == pytest.approx(0.25)


# A text's seconds are the cross-fade of that change


def test_the_seconds_of_a_prompt_travel_with_it() -> None:
    store = make(prompt_fade=0.5)
    store.set("prompt", "fire", over_s=3)
    assert (store.snapshot().prompt, store.snapshot().prompt_fade) == ("fire", 3.0)
    assert store.values()["prompt_fade"] == 0.5
    store.set("prompt", "ice")
    assert (store.snapshot().prompt, store.snapshot().prompt_fade) == ("ice", 0.5)


def test_the_seconds_stay_until_the_next_text_even_if_the_row_is_moved() -> None:
    store = make()
    store.set("prompt", "fire", over_s=3)
    store.snapshot()
    store.set("prompt_fade", 7.0)
    assert store.snapshot().prompt_fade == 3.0
    store.set("prompt", "ice")
    assert store.snapshot().prompt_fade == 7.0


def test_a_negative_prompt_in_the_same_snapshot_shares_the_seconds() -> None:
    store = make()
    store.set("prompt", "fire", over_s=3)
    store.set("negative", "smoke")
    assert store.snapshot().prompt_fade == 3.0
    store.set("negative", "ash")
    assert store.snapshot().prompt_fade == 0.5


def test_a_replaced_prompt_takes_its_seconds_with_it() -> None:
    store = make()
    store.set("prompt", "fire", over_s=3)
    store.set("prompt", "ice")
    assert store.snapshot().prompt_fade == 0.5


def test_the_same_prompt_again_changes_nothing() -> None:
    store = make(prompt="fire")
    before = store.snapshot()
    store.set("prompt", "fire", over_s=3)
    assert store.snapshot() is before


# What is refused


@pytest.mark.parametrize(
    ("name", "value", "over_s", "says"),
    [
        ("strenght", 0.5, None, "did you mean strength"),
        ("strength", float("nan"), None, "finite"),
        ("strength", float("inf"), None, "finite"),
        ("strength", 1e308, None, "0 to 1"),
        ("strength", 10**400, None, "smaller number"),
        ("strength", "0.5", None, "a number, not str"),
        ("strength", True, None, "a number, not bool"),
        ("strength", None, None, "a number, not NoneType"),
        ("strength", (0.5,), None, "a number, not tuple"),
        ("steps", 1.5, None, "whole number"),
        ("steps", 9, None, "1 to 8"),
        ("width", 100, None, "multiples of 64"),
        ("prompt", 5, None, "text"),
        ("prompt", "x" * 65_536, None, "at most 2048 bytes"),
        ("prompt", "a\0b", None, "control characters"),
        ("prompt", "\ud800", None, "surrogate"),
        ("sampler", "euler", None, "auto | lcm"),
        ("pause", 2, None, "0 or 1"),
        ("model", "sd_turbo", None, "did you mean sd-turbo"),
        ("model", "../../etc/passwd", None, "there is no"),
        ("strength", 0.5, -1, "seconds"),
        ("strength", 0.5, MAX_RAMP_S + 1, "seconds"),
        ("strength", 0.5, float("nan"), "seconds"),
        ("strength", 0.5, "2", "seconds"),
        ("strength", 0.5, True, "seconds"),
        ("sampler", "tcd", 2, "takes no seconds"),
        ("seed", 7, 2, "takes no seconds"),
        ("model", "sd-turbo", 2, "takes no seconds"),
    ],
)
def test_a_refused_value_says_why_and_changes_nothing(name: str, value: object, over_s: object, says: str) -> None:
    store = make()
    before, targets = store.snapshot(), store.values()
    with pytest.raises(ParamError, match=says.replace("|", r"\|")):
        store.set(name, value, over_s)  # type: ignore[arg-type]
    assert store.snapshot() == before
    assert store.values() == targets


def test_ids_are_asked_for_each_time() -> None:
    models = ["pocket"]
    store = ParamStore(Params(), {"models": lambda: models})
    with pytest.raises(ParamError):
        store.set("model", "new")
    models.append("new")
    store.set("model", "new")
    assert store.snapshot().model == "new"


def test_initial_values_are_checked_too() -> None:
    with pytest.raises(ParamError, match="strength"):
        make(strength=3.0)


# Who is told


def test_listeners_hear_changes_and_not_their_own() -> None:
    store = make()
    page: list[tuple[str, object]] = []
    surface: list[tuple[str, object]] = []
    stop = store.listen(lambda name, value: page.append((name, value)), origin="page")
    store.listen(lambda name, value: surface.append((name, value)), origin="surface")
    store.set("seed", 5, origin="page")
    store.set("seed", 6, origin="surface")
    store.set("seed", 6)
    stop()
    store.set("seed", 8)
    assert page == [("seed", 6)]
    assert surface == [("seed", 5), ("seed", 8)]


def test_watchers_get_seconds_and_origin() -> None:
    store = make()
    heard: list[Setting] = []
    store.watch(heard.append)
    store.set("strength", 0.25, over_s=2, origin="me")
    assert heard == [Setting("strength", 0.25, 2.0, "me")]


def test_a_listener_may_write_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    store = make()
    heard: list[tuple[str, object]] = []

    def follow(name: str, value: object) -> None:
        if name == "seed":
            store.set("seed2", value)
            raise RuntimeError("listener broke")

    store.listen(follow)
    store.listen(lambda name, value: heard.append((name, value)))
    store.set("seed", 41)
    assert heard == [("seed", 41), ("seed2", 41)]
    assert "a listener failed" in caplog.text
    store.set("seed", 42)
    assert heard[-2:] == [("seed", 42), ("seed2", 42)]


def test_no_lock_is_held_while_listeners_run() -> None:
    store = make()
    entered, leave = threading.Event(), threading.Event()

    def slow(name: str, value: object) -> None:
        entered.set()
        leave.wait(60)

    store.listen(slow)
    writer = threading.Thread(target=store.set, args=("seed", 9))
    writer.start()
    assert entered.wait(60)
    store.set("steps", 3)
    assert store.snapshot().steps == 3
    leave.set()
    writer.join(60)
    assert not writer.is_alive()


def test_with_many_writers_every_listener_ends_on_the_truth() -> None:
    store = make()
    shown: dict[str, object] = {}
    store.listen(shown.__setitem__)
    barrier = threading.Barrier(4)

    def write(offset: int) -> None:
        barrier.wait(60)
        for i in range(400):
            store.set("seed", i * 4 + offset)
            store.set("seed2", i * 4 + offset)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    values = store.values()
    assert shown == {"seed": values["seed"], "seed2": values["seed2"]}


# Any order of anything


def _valid(name: str) -> st.SearchStrategy[object]:
    spec = table()[name]
    if spec.ids:
        return st.sampled_from(IDS[spec.ids])
    if spec.choices:
        return st.sampled_from(spec.choices)
    if spec.type is bool:
        return st.booleans()
    if spec.type is str:
        return st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=40)
    assert spec.low is not None
    assert spec.high is not None
    if spec.type is int:
        return st.integers(int(spec.low // spec.step), int(spec.high // spec.step)).map(lambda n: n * spec.step)
    return st.floats(spec.low, spec.high)


ANYTHING = st.one_of(
    st.floats(), st.integers(), st.text(), st.binary(), st.none(), st.booleans(), st.tuples(st.floats())
)
SETS = st.lists(
    st.sampled_from(list(table())).flatmap(lambda name: st.tuples(st.just(name), st.one_of(_valid(name), ANYTHING))),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(sets=SETS, every=st.integers(1, 7))
def test_after_any_order_of_sets_a_snapshot_is_the_last_valid_value_of_every_row(
    sets: list[tuple[str, object]], every: int
) -> None:
    store = make()
    expected = dict(store.values())
    last = store.snapshot()
    for number, (name, value) in enumerate(sets):
        try:
            expected[name] = table()[name].coerce(value)
            if (ids := table()[name].ids) and value not in IDS[ids]:
                expected[name] = store.values()[name]
        except (ValueError, OverflowError):
            pass
        try:
            store.set(name, value)
        except ParamError:
            pass
        if number % every == 0:
            params = store.snapshot()
            same = all(getattr(params, row) == getattr(last, row) for row in table())
            assert params.version == last.version if same else params.version > last.version
            last = params
    final = store.snapshot()
    assert {name: getattr(final, name) for name in table()} == expected == store.values()
