"""Prompts that move: lists, mathematics, editing and alternation on stream time, fades, and what is told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from pipelines.params import Params
from pipelines.prompt import KEPT, Manner, Prompter
from pipelines.promptlang.blend import between, blend, eased, slerp
from pipelines.stream import DiffusionStream
from tests.support.prompts import AXES, Clock, Encoder, axis


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(axis)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def speak(encoder, clock) -> Iterator[Callable[..., Prompter]]:
    """speak(prompt, negative="", manner=Manner()) -> Prompter."""
    made: list[Prompter] = []

    def make(prompt: str, negative: str = "", manner: Manner = Manner()) -> Prompter:  # noqa: B008
        made.append(Prompter(encoder, prompt, negative, clock, manner))
        return made[-1]

    yield make
    encoder.gate.set()
    for prompter in made:
        prompter.close()


def said(prompter: Prompter, row: int = 1, **values: float) -> dict[str, float]:
    """How much of each letter there is now."""
    cond = prompter.now(values)
    cond = prompter._target if cond is None else cond
    return {AXES[i]: round(float(x), 4) for i, x in enumerate(cond[0][row, 0]) if abs(x) > 1e-6}


def caught_up(prompter: Prompter, **values: float) -> dict[str, float]:
    """As `said`, once the thread has encoded what that moment needs."""
    deadline = time.monotonic() + 60
    while True:
        said(prompter, **values)
        with prompter._change:
            idle = not prompter._more
        if idle and not prompter._voice.missing:
            return said(prompter, **values)
        assert time.monotonic() < deadline, prompter.notes()
        time.sleep(0.005)


def test_a_list_is_blended_by_its_weights(speak):
    prompter = speak("a:3 | b:1", "c:1 | d:1")
    assert said(prompter) == {"a": 0.75, "b": 0.25}
    assert said(prompter, row=0) == {"c": 0.5, "d": 0.5}
    assert prompter.now() is None, "nothing moves"
    assert prompter.notes()["prompt.parts"] == "a:0.75 | b:0.25"


def test_many_are_blended_whatever_their_order(speak):
    letters = "abcdefgh"
    prompter = speak(" | ".join(f"{c}:{n + 1}" for n, c in enumerate(letters)))
    assert said(prompter) == pytest.approx({c: (n + 1) / 36 for n, c in enumerate(letters)}, abs=1e-4)


def test_along_the_arc_no_length_is_lost(speak):
    straight, arc = (speak("a:1 | b:1", manner=Manner(way=way)) for way in ("lerp", "slerp"))
    assert said(straight) == {"a": 0.5, "b": 0.5}
    assert said(arc) == pytest.approx({"a": math.sqrt(0.5), "b": math.sqrt(0.5)}, abs=1e-4)


def test_weights_that_are_mathematics_move_with_the_stream(speak, clock):
    prompter = speak("a:`2+cos(6.2832*t/30)`| b:`2-cos(6.2832*t/30)`")  # 30 of Deforum's frames: 2 s
    for seconds, share in ((0.0, 0.75), (0.5, 0.5), (1.0, 0.25), (2.0, 0.75)):
        clock.now = 100.0 + seconds
        assert said(prompter)["a"] == pytest.approx(share, abs=1e-3)
    assert prompter.now() is not None, "it goes on"


def test_a_weight_that_turns_negative_goes_to_the_other_side(speak, clock):
    prompter = speak("eggs:`cos(6.2832*t/30)`, bacon:0.5")
    assert said(prompter)["e"] == pytest.approx(2 / 3, abs=1e-4)
    clock.now += 1.0
    assert said(prompter, row=0) == {"e": 1.0}


def test_live_variables_come_from_the_caller(speak):
    prompter = speak("a:`in.kick` | b:`1-in.kick`")
    assert said(prompter, **{"in.kick": 0.25}) == {"a": 0.25, "b": 0.75}
    assert said(prompter, **{"in.kick": 0.75}) == {"a": 0.75, "b": 0.25}
    assert said(prompter) == {"a": 0.75, "b": 0.25}, "a channel that falls silent leaves what is shown"
    assert said(speak("a:`in.none` | b:1")) == {"a": 0.5, "b": 0.5}, "and at the start all weigh the same"


def test_editing_and_alternation_run_on_stream_time(speak, clock):
    prompter = speak("[a:b:0.3] x", manner=Manner(rate=2.0, steps=10))
    turns = speak("[a|b|c]", manner=Manner(rate=2.0))
    seen, taken = [], []
    for half in range(6):
        clock.now = 100.25 + half / 2
        seen += caught_up(prompter)
        taken += caught_up(turns)
    assert "".join(seen) == "aaabbb"
    assert "".join(taken) == "abcabc"
    assert turns.notes()["prompt.step"] == 6


def test_steps_fade_but_no_longer_than_half_of_one(speak, clock):
    prompter = speak("[a|b]")
    prompter.ask("[a|b]", "", 60.0)
    caught_up(prompter)
    clock.now += 1.0
    assert said(prompter) == {"a": 1.0}
    clock.now += 0.25
    assert said(prompter) == {"a": 0.5, "b": 0.5}
    clock.now += 0.25
    assert said(prompter) == {"b": 1.0}


def test_what_comes_next_is_encoded_ahead(speak, encoder, clock):
    prompter = speak("[a|b|c]")
    caught_up(prompter)
    assert {"a", "b", "c"} <= set(encoder.asked)
    encoder.gate.clear()
    clock.now += 1.5
    assert said(prompter) == {"b": 1.0}


def test_a_text_that_is_late_leaves_what_is_shown(speak, encoder, clock):
    prompter = speak("[a:b:9]")
    encoder.gate.clear()
    clock.now += 20.0
    assert said(prompter) == {"a": 1.0}
    encoder.gate.set()
    assert caught_up(prompter) == {"b": 1.0}


def test_mathematics_in_a_text_is_shown_as_often_as_it_can_be_encoded(speak, encoder, clock):
    """The text is another one at every frame; it must not wait for one that stands still."""
    prompter = speak("a`2+t`")
    seen, frames, deadline = set(), 0, time.monotonic() + 60
    while frames < 40 or len(seen) <= 5:
        assert time.monotonic() < deadline, seen
        clock.now += 0.1
        seen |= set(said(prompter).values())
        time.sleep(0.003)
        frames += 1
    assert len(prompter._kept) <= KEPT


def test_a_text_that_can_not_be_encoded_is_asked_for_once(speak, encoder, clock):
    prompter = speak("[a:wrong:3]")
    frames, deadline = 0, time.monotonic() + 60
    while frames < 20 or not prompter.notes()["prompt.error"]:
        assert time.monotonic() < deadline
        clock.now += 1.0
        said(prompter)
        time.sleep(0.005)
        frames += 1
    assert said(prompter) == {"a": 1.0}
    assert encoder.asked.count("wrong") == 1
    assert "no such word" in prompter.notes()["prompt.error"]


def test_a_fade_has_a_curve_and_a_way(speak, clock):
    for manner, quarter in (
        (Manner(), {"a": 0.75, "b": 0.25}),
        (Manner(curve="ease"), {"a": 0.8438, "b": 0.1562}),
        (Manner(way="slerp"), {"a": 0.9239, "b": 0.3827}),
    ):
        prompter = speak("a", manner=manner)
        prompter.ask("b", "", 4.0, manner)
        assert prompter.settle()
        prompter.ask("b", "", 4.0, manner)
        clock.now += 1.0
        assert said(prompter) == pytest.approx(quarter, abs=2e-4)
        clock.now += 3.0
        assert said(prompter) == {"b": 1.0}


def test_a_fade_into_a_moving_prompt_arrives(speak, clock):
    prompter = speak("z")
    wish = "a:`1+sin(t)` | b:1"
    prompter.ask(wish, "", 2.0)
    assert prompter.settle()
    prompter.ask(wish, "", 2.0)
    shares = []
    for _ in range(5):
        shares.append(said(prompter).get("z", 0.0))
        clock.now += 0.5
    assert shares == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0], abs=1e-3)


def test_how_prompts_are_mixed_can_change_while_one_is_shown(speak):
    prompter = speak("a:1 | b:1")
    assert said(prompter) == {"a": 0.5, "b": 0.5}
    prompter.ask("a:1 | b:1", "", 0.0, Manner(way="slerp"))
    assert said(prompter)["a"] == pytest.approx(math.sqrt(0.5), abs=1e-4)
    prompter.ask("a:1 | b:1", "", 0.0, Manner(normalize=False))
    assert said(prompter) == {"a": 1.0, "b": 1.0}
    assert prompter.now() is None


def test_slerp_keeps_length_and_does_not_break_where_the_arc_is_flat():
    a = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(1))
    b = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2))
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    for w in (0.0, 0.3, 1.0):
        assert torch.allclose(slerp(a, b, w).norm(dim=-1), torch.ones(1, 5), atol=1e-5)
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-6)
    assert torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    for other in (a, a * 3, -a, torch.zeros_like(a)):
        assert torch.isfinite(slerp(a, other, 0.4)).all()
    assert torch.allclose(slerp(a, a, 0.4), a)
    assert eased(0.0, "ease") == 0.0
    assert eased(1.0, "ease") == 1.0


def test_weights_beside_one_scale_the_hidden_states_alone():
    cond = (torch.ones(1, 2, 3), torch.ones(1, 4), torch.full((1, 6), 512.0))
    out = blend([(cond, 0.5), (cond, 1.5)])
    assert [float(part.flatten()[0]) for part in out] == [2.0, 1.0, 512.0]
    assert torch.equal(between(cond, cond, 0.3, "slerp")[2], cond[2])


def test_networks_and_notes_are_told(speak):
    prompter = speak("a AND b <lora:glass:0.5> <style:none>")
    assert [(tag.name, tag.unet) for tag in prompter.networks] == [("glass", 0.5)]
    notes = prompter.notes()
    assert "AND is blended" in notes["prompt.notes"]
    assert "there is no style 'none'" in notes["prompt.notes"]
    assert all(isinstance(value, (float, str)) for value in notes.values())


def test_styles_come_from_the_users_file(encoder, clock, tmp_path):
    file = tmp_path / "styles.csv"
    file.write_text("name,prompt,negative_prompt\nfilm,b {prompt},c\n")
    prompter = Prompter(encoder, "x <style:film>", "", clock, styles=file)
    assert said(prompter) == {"b": 1.0}
    assert said(prompter, row=0) == {"c": 1.0}
    prompter.close()


@pytest.fixture
def stream(model_folder) -> Iterator[DiffusionStream]:
    nets = EagerEngine().load(model_folder(), Build(64, 64, device="cpu", dtype="fp32"))
    made = DiffusionStream(nets, (64, 64), Params(prompt="neon"))
    yield made
    made.close()


def test_no_prompt_stops_a_stream(stream):
    """300 tokens, syntax errors, mathematics that can't be read: a sentence each, and the picture goes on."""
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    first = stream(frame, Params(prompt="neon")).copy()
    for prompt, word in (
        ("ink " * 300, "it is cut"),
        ("((neon:1.4 [ink:gold", ""),
        ("a:`cos(` b", "cos("),
        ("neon:`1/0` | ink:1", ""),
        ("a AND b", "blended"),
        ("(ink:1e99999)", ""),
    ):
        wish = Params(prompt=prompt[:2000], prompt_fade=0.0)
        stream.tune(wish)
        picture = stream(frame, wish)
        notes = stream.notes()
        assert picture.shape == first.shape
        assert word in str(notes["prompt.notes"]), prompt
        assert notes["prompt.error"] == ""
        assert notes["guard.held"] == 0
    assert not np.array_equal(picture, first)


def test_what_the_show_knows_reaches_the_prompts_weights(stream):
    wish = Params(prompt="a:`in.kick` | b:`1-in.kick`", prompt_fade=0.0)

    def embedded(kick: float) -> torch.Tensor:
        stream.tune(msgspec.structs.replace(wish, live={"in.kick": kick}))
        return stream.prompter._target[0].clone()

    low, high, again = embedded(0.25), embedded(0.75), embedded(0.25)
    assert torch.equal(low, again)
    assert not torch.allclose(low, high)


def test_clip_skip_is_another_embedding(stream):
    prompter = stream.prompter
    before = prompter.now()[0].clone()
    prompter.ask("neon", "", 0.0, Manner(clip_skip=2))
    assert prompter.settle()
    prompter.ask("neon", "", 0.0, Manner(clip_skip=2))
    assert torch.allclose(prompter.now()[0][1:], stream.nets.text("neon", 2).cond[0])
    assert not torch.allclose(prompter._target[0], before)


def test_what_may_come_next_is_encoded_when_there_is_nothing_else_to_do_and_changes_nothing(speak, encoder):
    prompter = speak("a")
    prompter.now()
    prompter.foresee("b7", "c")
    prompter.foresee("b7", "c")
    assert prompter.catch_up() is None
    assert sorted(encoder.asked[-2:]) == ["b7", "c"]
    assert said(prompter) == {"a": 1.0}
    encoder.gate.clear()  # what is there needs no encoder any more
    prompter.ask("b7", "c", 0.0)
    assert said(prompter) == {"b": 7.0}
    encoder.gate.set()


def test_a_next_prompt_that_can_not_be_encoded_is_no_error_until_it_is_asked_for(speak, encoder):
    prompter = speak("a")
    prompter.now()
    prompter.foresee("wrong", "")
    prompter.catch_up()
    assert prompter.notes()["prompt.error"] == ""
    prompter.ask("wrong", "", 0.0)
    prompter.settle()
    assert "no such word" in prompter.notes()["prompt.error"]
