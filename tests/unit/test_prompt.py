"""Prompts beside the stream: a new one never delays a frame, the newest wins, and one fades into the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from engines.base import Build
from engines.eager import EagerEngine
from pipelines.params import Params
from pipelines.prompt import KEPT, Prompter
from pipelines.stream import DiffusionStream
from tests.support.prompts import Clock, Encoder, letters

FRAME = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(letters)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def prompter(encoder, clock) -> Iterator[Prompter]:
    before = set(threading.enumerate())
    made = Prompter(encoder, "a", "", clock)
    yield made
    encoder.gate.set()
    made.close()
    assert not any(t.name == "ll-prompt" for t in set(threading.enumerate()) - before)


def shown(prompter: Prompter) -> float | None:
    """The prompt's number at this moment."""
    cond = prompter.now()
    return None if cond is None else float(cond[0][1, 0, 0])


def test_the_first_prompt_is_there_at_once_and_told_once(prompter):
    assert shown(prompter) == 1.0
    assert shown(prompter) is None
    prompter.ask("a", "", 1.0)
    assert shown(prompter) is None


def test_the_old_prompt_stays_until_the_new_one_is_encoded(prompter, encoder):
    encoder.gate.clear()
    for _ in range(5):
        prompter.ask("abc", "", 0.0)
        assert shown(prompter) in (1.0, None)
    assert prompter.notes()["prompt.shown"] == "a"
    encoder.gate.set()
    assert prompter.settle()
    prompter.ask("abc", "", 0.0)
    assert shown(prompter) == 3.0
    assert prompter.notes()["prompt.shown"] == "abc"


def test_the_newest_wins(prompter, encoder):
    encoder.gate.clear()
    encoder.busy.clear()
    prompter.ask("ab", "", 0.0)
    assert encoder.busy.wait(30)
    for text in ("abc", "abcd", "abcde"):
        prompter.ask(text, "", 0.0)
    encoder.gate.set()
    assert prompter.settle()
    prompter.ask("abcde", "", 0.0)
    assert shown(prompter) == 5.0
    assert encoder.asked == ["a", "", "ab", "abcde"], "what was overtaken is never encoded"


def test_a_fade_goes_from_one_to_the_other_and_never_back(prompter, clock):
    shown(prompter)
    prompter.ask("abcde", "", 2.0)
    assert prompter.settle()
    prompter.ask("abcde", "", 2.0)
    seen = []
    for _ in range(21):
        seen.append(shown(prompter))
        clock.now += 0.1
    assert seen[0] == 1.0
    assert seen[10] == pytest.approx(3.0)
    assert np.all(np.diff(seen) > 0)
    assert (shown(prompter), shown(prompter)) == (5.0, None)


def test_a_fade_that_is_overtaken_goes_on_from_what_is_seen(prompter, clock):
    prompter.ask("abcde", "", 2.0)
    assert prompter.settle()
    prompter.ask("abcde", "", 2.0)
    clock.now += 1.0
    assert shown(prompter) == pytest.approx(3.0)
    prompter.ask("a", "", 2.0)  # known already: no encoding, at once
    assert shown(prompter) == pytest.approx(3.0)
    clock.now += 1.0
    assert shown(prompter) == pytest.approx(2.0)
    clock.now += 1.0
    assert shown(prompter) == 1.0


def test_recent_prompts_are_not_encoded_again(prompter, encoder):
    for text in ("ab", "abc", "ab", "abc", "a"):
        prompter.ask(text, "", 0.0)
        assert prompter.settle()
        prompter.ask(text, "", 0.0)
        assert shown(prompter) == len(text)
    assert encoder.asked == ["a", "", "ab", "abc"]
    for n in range(KEPT + 5):
        prompter.ask("b" * (n + 10), "", 0.0)
        assert prompter.settle()
    assert len(prompter._kept) == KEPT


def test_an_encoder_that_fails_leaves_the_old_prompt_and_says_why(prompter, encoder):
    prompter.ask("wrong", "", 0.0)
    assert prompter.settle()
    prompter.ask("wrong", "", 0.0)
    assert shown(prompter) == 1.0
    assert "no such word" in prompter.notes()["prompt.error"]
    prompter.ask("ab", "", 0.0)
    assert prompter.settle()
    prompter.ask("ab", "", 0.0)
    assert shown(prompter) == 2.0
    assert prompter.notes()["prompt.error"] == ""


@pytest.fixture
def stream(model_folder, clock) -> Iterator[DiffusionStream]:
    nets = EagerEngine().load(model_folder(), Build(64, 64, device="cpu", dtype="fp32"))
    made = DiffusionStream(nets, (64, 64), Params(prompt="neon"), clock=clock)
    yield made
    made.close()


def test_a_prompt_that_is_being_encoded_does_not_hold_a_frame(stream):
    """While the encoder hangs, frames go on with the old prompt; afterwards they have the new one."""
    encode, gate = stream.prompter._encode, threading.Event()
    waiting = threading.Event()

    class Slow:
        spec = encode.spec

        def __call__(self, prompt):
            waiting.set()
            assert gate.wait(30)
            return encode(prompt)

    stream.prompter._encode = Slow()
    old = stream(FRAME, Params(prompt="neon")).copy()
    wish = Params(prompt="ink gold", prompt_fade=0.0)
    assert np.array_equal(stream(FRAME, wish), old)
    assert waiting.wait(30)
    for _ in range(3):
        assert np.array_equal(stream(FRAME, wish), old)
    gate.set()
    assert stream.prompter.settle()
    assert not np.array_equal(stream(FRAME, wish), old)


def test_a_cross_fade_ends_on_the_picture_of_the_new_prompt(stream, clock):
    values = {"guidance_mode": "full", "guidance": 8.0}
    wish = Params(prompt="ink gold", prompt_fade=1.0, **values)
    first = stream(FRAME, Params(prompt="neon", **values)).astype(int)
    stream.prompter.ask(wish.prompt, "", 1.0)
    assert stream.prompter.settle()
    pictures = []
    for _ in range(6):
        pictures.append(stream(FRAME, wish).astype(int))
        clock.now += 0.2
    away = [np.abs(p - first).mean() for p in pictures]
    left = [np.abs(p - pictures[-1]).mean() for p in pictures]
    assert np.all(np.diff(away) > 0)
    assert np.all(np.diff(left) < 0)
    fresh = DiffusionStream(stream.nets, (64, 64), wish)
    assert np.array_equal(fresh(FRAME, wish), pictures[-1])
    fresh.close()


def test_notes_tell_what_the_model_does_not_know(stream):
    notes = stream.notes()
    assert notes["prompt.shown"] == "neon"
    assert notes["prompt.tokens"] == 1
    assert notes["prompt.unknown"] == ""
    text = stream.nets.text("neon 2049 ink b9b " + "gold " * 20 + "far")
    assert text.unknown == ("2049", "b9b", "gold", "far")
    assert text.tokens > 24
