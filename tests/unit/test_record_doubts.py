"""What a replay is told not to expect, and what a recording says of its pictures."""

from __future__ import annotations

import msgspec
import pytest
from support.records import SPEC, stamps

from bridge.record.doubts import Doubts, engine_of
from bridge.record.lines import Entry, Line
from pipelines.acting import Acting, effective
from pipelines.caption import caption
from pipelines.infotext import read
from pipelines.params import Params
from pipelines.promptlang.timeline import Timeline

PLAIN = Acting(engine="cpu float32, tiny autoencoder")


def entry(n: int, acting: Acting = PLAIN, lost: int = 0, **params: object) -> Entry:
    line = Line(n=n, t=0.0, seq=n, version=1, epoch=1, stamps=stamps(n), lost=lost)
    return Entry(line, Params(**params), acting, SPEC)  # type: ignore[arg-type]


def doubts(*entries: Entry) -> list[str]:
    asked = Doubts()
    return [asked.of(one, PLAIN.engine, fresh=i == 0) for i, one in enumerate(entries)]


def test_nothing_speaks_against_a_plain_recording() -> None:
    assert doubts(*(entry(n, feedback=0.5) for n in range(3))) == ["", "", ""]


@pytest.mark.parametrize(
    ("acting", "params", "why"),
    [
        (Acting(engine="openvino cpu f32"), {}, "openvino cpu f32 painted it"),
        (Acting(engine=PLAIN.engine, late=True), {}, "not encoded in time"),
        (PLAIN, {"ip_on": True}, "image prompt"),
        (PLAIN, {"control2_on": True, "control2_source": "stream"}, "control unit 2 has a stream of its own"),
        (PLAIN, {"control1_on": True, "control1_source": "still"}, "a still from before"),
        (PLAIN, {"control1_on": True, "control1_preprocessor": "pose"}, "at a pace of its own"),
        (PLAIN, {"colour_match": "lab", "colour_reference": "captured", "colour_capture": 3}, "caught before"),
    ],
)
def test_what_the_recording_cannot_tell_is_said(acting: Acting, params: dict[str, object], why: str) -> None:
    (said,) = doubts(entry(0, acting, **params))
    assert why in said


def test_a_fade_from_before_is_in_doubt_until_it_is_over_and_one_of_the_recording_is_not() -> None:
    fades = [0.2, 0.8, 1.0, 0.1, 1.0]
    said = doubts(*(entry(n, Acting(engine=PLAIN.engine, fade=fade)) for n, fade in enumerate(fades)))
    assert [bool(why) for why in said] == [True, True, False, False, False]


def test_what_follows_a_hole_is_in_doubt_only_if_it_recurs() -> None:
    assert doubts(entry(0), entry(1, lost=2), entry(2)) == ["", "", ""]
    said = doubts(entry(0, smoothing=0.5), entry(1, lost=2, smoothing=0.5), entry(2, smoothing=0.5), entry(3))
    assert [bool(why) for why in said] == [False, True, True, False]


def test_an_engine_is_known_by_what_it_says_of_itself() -> None:
    said = ("cpu bfloat16, tiny autoencoder", "openvino cpu f32, x", "tensorrt fp8", "fake")
    assert [engine_of(Acting(engine=text)) for text in said] == ["eager", "openvino", "tensorrt", "fake"]


def test_parameters_take_effect_as_far_as_was_ready() -> None:
    asked = Params(
        prompt="ink",
        prompt_line=Timeline.start(1.0, 1.0, 15.0),
        control1_on=True,
        control1_model="pocket-edge",
        control2_on=True,
        lora2_id="soft",
    )
    acting = Acting(prompt="neon", negative="dull", skip=2, controlnets={1: "none"}, waiting=(2,), absent=("soft",))
    got = effective(asked, acting)
    assert (got.prompt, got.negative, got.clip_skip, got.prompt_line) == ("neon", "dull", 2, None)
    assert (got.control1_model, got.control1_on, got.control2_on, got.lora2_id) == ("none", True, False, "none")
    assert effective(asked, PLAIN) is asked


def test_a_caption_is_read_back_exactly() -> None:
    params = Params(
        prompt="gold, ink: 2\nSteps: 9, a: b, c: d",
        negative='a "quoted" \\ thing',
        strength=0.123456789,
        steps=3,
        sampler="lcm",
        seed=2**31 - 1,
        seed_mix=0.25,
        guidance=1.5,
        guidance_mode="self",
        control1_on=True,
        control1_weight=1 / 3,
        pause=True,
    )
    text = caption(params, "1.2")
    assert "Steps: 3, Sampler: LCM, CFG scale: 1.5, Seed: 2147483647, Size: 256x256, Model: pocket" in text
    values, notes = read(text)
    assert notes == []
    assert "pause" not in values  # of the show, not of the picture
    assert msgspec.structs.replace(Params(**values), pause=True) == params


def test_others_read_what_they_know_of_a_caption() -> None:
    text = caption(Params(prompt="ink", seed=5, steps=2), "1.2").partition(", Livelatent:")[0]
    values, _ = read(text)
    assert (values["prompt"], values["seed"], values["steps"]) == ("ink", 5, 2)


def test_a_pair_of_ours_that_is_broken_is_no_reason_to_read_nothing() -> None:
    values, _ = read('ink\nSteps: 2, Seed: 5, Size: 256x256, Livelatent: "{\\"seed\\": "')
    assert values["seed"] == 5
    values, notes = read('ink\nSteps: 2, Seed: 5, Livelatent: "{\\"seed\\": -1, \\"x\\": 2, \\"mix\\": 0.5}"')
    assert (values["mix"], len(notes)) == (0.5, 2)
