"""The rows of a prompt in a running stream: each acts, none makes its time jump, and a heir goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from bridge.clock import NS
from bridge.store import ParamStore
from engines import modelfile
from engines.base import Build
from engines.eager import EagerEngine
from pipelines.build import build
from pipelines.params import Params, pack, table, unpack
from pipelines.promptlang.timeline import Timeline
from pipelines.promptlang.voice import Manner
from pipelines.spec import Moment, StreamSpec, structural
from pipelines.stream import DiffusionStream
from tests.unit.conftest import LENGTH

FRAME = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def store(**values: Any) -> ParamStore:
    return ParamStore(Params(**values), {})


@pytest.fixture
def open_stream(model_folder) -> Iterator[Callable[..., DiffusionStream]]:
    made: list[DiffusionStream] = []

    def make(**values: Any) -> DiffusionStream:
        nets = EagerEngine().load(model_folder(), Build(64, 64, device="cpu", dtype="fp32"))
        made.append(DiffusionStream(nets, (64, 64), Params(**values)))
        return made[-1]

    yield make
    for stream in made:
        stream.close()


def said(stream: DiffusionStream, params: Params, moment: Moment) -> torch.Tensor:
    """What the networks are told at that moment, all of it encoded."""
    stream.tune(params, moment)
    stream(FRAME, params, moment)
    return stream.knobs.both[0].clone()


# A timeline


def test_a_rate_that_changes_bends_a_timeline_and_tears_nothing():
    line = Timeline.start(100.0, 1.0, 15.0)
    assert line.at(104.5) == (4.5, 5, 67.5)
    faster = line.turn(104.5, 10.0, 30.0)
    assert faster.at(104.5) == line.at(104.5)
    assert faster.at(105.5) == (5.5, 15, 97.5)
    assert faster.turn(200.0, 10.0, 30.0) is faster
    stopped = faster.turn(105.5, 0.0, 0.0)
    assert stopped.at(900.0) == (800.0, 15, 97.5)
    assert line.at(99.0) == (0.0, 1, 0.0), "before it began"


def test_a_ramp_of_the_rate_never_turns_back_nor_jumps():
    made = store(prompt="x", prompt_fps=10.0)
    made.set("prompt", "y", at_ns=10**18)
    made.set("prompt_fps", 60.0, over_s=10.0, at_ns=10**18 + 500 * NS)
    frames = []
    for tenth in range(120):
        at = 10**18 + 500 * NS + tenth * NS // 10
        line = made.snapshot(at).prompt_line
        assert line is not None
        frames.append(line.at(at / NS).frames)
    steps = np.diff(frames)
    assert frames[0] == pytest.approx(5000.0)
    assert np.all(steps > 0)
    assert steps.max() <= 6.1, "60 a second at most"
    assert steps[-1] == pytest.approx(6.0)


def test_a_prompts_time_begins_with_its_text_and_with_nothing_else():
    made = store(prompt="x")
    began = made.snapshot().prompt_line.began
    at = 10**18
    for name, value in (("strength", 0.2), ("prompt_rate", 3.0), ("prompt_grammar", "a1111"), ("clip_skip", 2)):
        made.set(name, value, at_ns=at)
    assert made.snapshot(at).prompt_line.began == began
    assert made.snapshot(at).prompt_line.rate == 3.0
    for name, value in (("prompt", "y"), ("negative", "z")):
        at += NS
        made.set(name, value, at_ns=at)
        assert made.snapshot(at + 5).prompt_line.began == at / NS
    made.set("prompt", "y", at_ns=at + NS)
    assert made.snapshot(at + NS).prompt_line.began == at / NS, "the same again is no other prompt"
    version = made.snapshot(at + NS).version
    made.restart_prompt(at + 2 * NS)
    assert made.snapshot(at + 3 * NS).prompt_line.began == (at + 2 * NS) / NS
    assert made.snapshot(at + 3 * NS).version == version + 1
    assert unpack(pack(made.snapshot(at + 3 * NS))) == made.snapshot(at + 3 * NS)


def test_defaults_are_written_once():
    assert Manner.of(Params()) == Manner()
    for name in ("prompt_rate", "prompt_fps"):
        assert table()[name].ramps
    assert not table()["prompt_span"].ramps


# Every row acts

MOVING = "neon:`1+0.9*cos(0.7*t)` | ink:1 | [gold|neon|ink]:0.5"


@pytest.mark.parametrize(
    ("name", "value", "prompt"),
    [
        ("prompt_blend", "slerp", "neon:1 | ink:1"),
        ("prompt_normalize", False, "neon:1 | ink:1"),
        ("prompt_rate", 2.0, "[neon:ink:5]"),
        ("prompt_span", 4, "[neon:ink:0.9]"),
        ("prompt_fps", 4.0, "neon:`t` | ink:20"),
        ("prompt_grammar", "a1111", "neon:1 | ink:1"),
        ("clip_skip", 2, "neon"),
        ("seed", 5, "neon:`seed` | ink:1"),
        ("strength", 0.9, "neon:`strength` | ink:1"),
    ],
)
def test_every_row_changes_what_is_said_and_back(open_stream, name, value, prompt):
    stream = open_stream(prompt=prompt)
    base = Params(prompt=prompt, prompt_fade=0.0, prompt_line=Timeline.start(100.0, 1.0, 15.0))
    moment = Moment(104.4, 9)

    def turned(**values: Any) -> torch.Tensor:
        params = msgspec.structs.replace(base, **values)
        line = Timeline.start(100.0, params.prompt_rate, params.prompt_fps)
        return said(stream, msgspec.structs.replace(params, prompt_line=line), moment)

    before = turned()
    assert not torch.allclose(turned(**{name: value}), before)
    assert torch.allclose(turned(), before, atol=1e-6)


def test_the_curve_of_a_fade(open_stream):
    stream = open_stream(prompt="neon")
    shares = []
    for curve in ("linear", "ease"):
        first, second = (Params(prompt=text, prompt_fade=4.0, prompt_curve=curve) for text in ("neon", "ink"))
        said(stream, second, Moment(99.0, 0))
        start = said(stream, first, Moment(100.0, 0))
        stream(FRAME, second, Moment(102.0, 2))
        stream(FRAME, second, Moment(103.0, 3))
        seen = stream.knobs.both[0].clone()
        stream(FRAME, second, Moment(110.0, 4))
        end = stream.knobs.both[0]
        shares.append(float((seen - start).norm() / (end - start).norm()))
    assert shares == pytest.approx([0.25, 0.25**2 * 2.5], abs=1e-3)


def test_mathematics_of_live_values_encodes_nothing_anew(open_stream):
    stream, asked = open_stream(prompt="gold"), []
    encode = stream.prompter._encode

    class Counting:
        spec = encode.spec

        def __call__(self, prompt):
            asked.append(prompt)
            return encode(prompt)

    stream.prompter._encode = Counting()
    prompt = "neon:`strength` | ink:`1-strength` | gold neon:`0.5+0.5*cos(6.28*time/10)`"
    params = Params(prompt=prompt, prompt_fade=0.0, prompt_line=Timeline.start(0.0, 1.0, 15.0))
    stream.tune(params, Moment(0.0, 0))
    assert sorted(filter(None, asked)) == ["gold neon", "ink", "neon"]
    asked.clear()
    seen = set()
    for n in range(40):
        moved = msgspec.structs.replace(params, strength=0.1 + n / 50)
        stream(FRAME, moved, Moment(n / 7, n))
        seen.add(tuple(stream.knobs.both[0][1, 1, :4].tolist()))
    assert not asked
    assert len(seen) == 40


# Taking over


@pytest.mark.parametrize(
    "prompt", [MOVING, "[neon|ink|gold]", "[neon:ink:3]", "(neon:`1+0.1*time`) ink", "neon:`f` | ink:40"]
)
def test_who_takes_over_says_what_the_other_would_have_said(open_stream, prompt):
    """The heir was tuned a quarter of a second ago, as a standby is; it has never seen the prompt come up."""
    painter, heir = open_stream(prompt="gold"), open_stream(prompt="gold")
    params = Params(prompt=prompt, prompt_fade=0.0, prompt_line=Timeline.start(100.0, 1.0, 15.0))
    for n in range(9):
        said(painter, params, Moment(100.0 + n / 2, 15 * n))
    heir.tune(params, Moment(103.9, 117))
    at = Moment(104.1, 123)
    expected = painter(FRAME, params, at).copy()
    got = heir(FRAME, params, at).copy()
    if "`1+0.1" in prompt:  # a text that flows is encoded after the frame that first asks for it
        heir.prompter.catch_up(heir.speech.values(params))
        painter.prompter.catch_up(painter.speech.values(params))
        expected, got = (s(FRAME, params, at).copy() for s in (painter, heir))
    assert np.array_equal(got, expected)
    fresh = open_stream(prompt=prompt)
    first, early = (
        Moment(104.1, 0),
        Params(prompt=prompt, prompt_fade=0.0, prompt_line=Timeline.start(104.1, 1.0, 15.0)),
    )
    fresh.tune(early, first)
    assert not np.array_equal(fresh(FRAME, early, first), got), "at its beginning it says something else"


def test_fades_and_time_are_those_of_the_frames(open_stream):
    """Two streams that get the same frames at the same moments paint the same, however long each takes."""
    one, two = open_stream(prompt="neon"), open_stream(prompt="neon")
    for stream in (one, two):
        stream.tune(Params(prompt="ink"), Moment(99.0, 0))
        stream.tune(Params(prompt="neon"), Moment(99.5, 0))
    for n in range(12):
        params = Params(prompt="ink" if n > 2 else "neon", prompt_fade=1.0)
        moment = Moment(100.0 + n / 7, n)
        first = one(FRAME, params, moment).copy()
        assert np.array_equal(first, two(FRAME, params, moment))


# Room


def test_chunks_are_structural_and_give_room(model_folder):
    file = modelfile.user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[models.small]\nfolder = "{model_folder().as_posix()}"\n')
    params = Params(model="small", width=64, height=64, prompt_chunks=3, prompt="ink")
    spec = structural(StreamSpec(device="cpu", dtype="fp32", threads=1), params)
    assert spec.prompt_chunks == 3
    assert spec != structural(spec, Params(model="small", width=64, height=64))
    stream = build(spec, params)
    assert isinstance(stream, DiffusionStream)
    try:
        assert stream.knobs.both[0].shape[1] == 3 * LENGTH
        for count, word in ((3 * (LENGTH - 2), ""), (3 * (LENGTH - 2) + 1, "it is cut")):
            long = Params(prompt=" ".join(["gold"] * count), prompt_chunks=3, prompt_fade=0.0)
            stream.tune(long)
            notes = stream.notes()
            assert notes["prompt.tokens"] == count
            assert word in str(notes["prompt.notes"])
            assert bool(notes["prompt.notes"]) == bool(word)
            assert stream(FRAME, long).shape == (64, 64, 3)
    finally:
        stream.close()


def test_a_network_that_is_not_there_is_said(open_stream):
    stream = open_stream(prompt="neon <lora:glass:0.8>")
    stream.tune(Params(prompt="neon <lora:glass:0.8> <hypernet:fog>"))
    assert "no LoRA 'glass'" in str(stream.notes()["lora.error"])
    assert "there is no hypernet 'fog'" in str(stream.notes()["prompt.notes"])
    assert stream(FRAME, Params(prompt="neon <lora:glass:0.8>")).shape == (64, 64, 3)
