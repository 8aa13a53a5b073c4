"""LoRAs in a running stream: by slots and in prompts, live, beside it, and without a trace when they are gone."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from pipelines.coming import Coming
from pipelines.img2img import step
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support import loras
from tests.support.prompts import Clock
from tests.support.tape import Tape

SIDE = 64
RNG = np.random.default_rng(0)
FRAME = np.kron(RNG.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
KINDS = ["sd15", "sd21", "sdxl", "lcm"]

Make = Callable[..., DiffusionStream]


@pytest.fixture(scope="module")
def files(model_folder, tmp_path_factory) -> Callable[[str], dict[str, Path]]:
    """For the model of a kind: `ink` and `mist` on denoiser and words, `mute` on the denoiser alone."""
    made: dict[str, dict[str, Path]] = {}

    def of(kind: str) -> dict[str, Path]:
        if kind not in made:
            root = tmp_path_factory.mktemp(f"loras-{kind}")
            layers = {"ink": loras.CONVS, "mist": loras.LAYERS, "mute": loras.ATTENTION}
            made[kind] = {
                name: loras.write(
                    root / f"{name}.safetensors", loras.kohya(loras.make(model_folder(kind), seed, layers=those))
                )
                for seed, (name, those) in enumerate(layers.items(), 1)
            }
        return made[kind]

    return of


@pytest.fixture
def make(model_folder, files) -> Iterator[Make]:
    made: list[DiffusionStream] = []

    def new(kind: str = "sd15", build: dict[str, Any] | None = None, **options: Any) -> DiffusionStream:
        loras.register(files(kind))
        nets = EagerEngine().load(model_folder(kind), Build(SIDE, SIDE, device="cpu", dtype="fp32", **(build or {})))
        made.append(DiffusionStream(nets, (SIDE, SIDE), Params(), **options))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


def slot(name: str, weight: float = 1.0, number: int = 1) -> dict[str, object]:
    return {f"lora{number}_id": name, f"lora{number}_weight": weight}


def paint(stream: DiffusionStream, **values: Any) -> np.ndarray:
    """One frame, once all that it names is there."""
    params = Params(**values)
    stream.tune(params)
    return stream(FRAME, params).copy()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def merges(stream: DiffusionStream) -> int:
    assert stream.nets.loras is not None
    return stream.nets.loras.unet.merges


@pytest.mark.parametrize("kind", KINDS)
def test_weight_0_is_the_picture_without_bit_by_bit_and_costs_nothing(kind, make):
    stream = make(kind)
    values = {"steps": 2, "guidance_mode": "full", "guidance": 3.0, "negative": "gold"}
    plain = paint(stream, **values)
    acting = paint(stream, **values, **slot("ink"))
    assert apart(acting, plain) > 0.2
    for idle in (slot("ink", 0.0), slot("none"), {}, {"prompt": "neon<lora:ink:0>"}):
        assert np.array_equal(paint(stream, **values, **idle), plain), idle
        before = merges(stream)
        stream(FRAME, Params(**values, **idle))
        assert merges(stream) == before
    assert np.array_equal(paint(stream, **values, **slot("ink")), acting)
    before = merges(stream)
    assert np.array_equal(stream(FRAME, Params(**values, **slot("ink"))), acting)
    assert merges(stream) == before, "what does not move costs nothing either"


def test_a_weight_acts_with_the_next_frame_and_is_continuous(make):
    stream = make()
    plain = paint(stream)
    paint(stream, **slot("mute", 0.0))
    pictures = [stream(FRAME, Params(**slot("mute", weight))).copy() for weight in (0.05, 0.3, 0.6, 1.0)]
    changes = [apart(picture, plain) for picture in pictures]
    assert changes == sorted(changes)
    assert changes[0] > 0
    assert apart(stream(FRAME, Params(**slot("mute", -1.0))), plain) > 0.05
    assert stream.notes()["lora.state"] == "mute -1.00"


def test_several_slots_add_up_in_any_place_and_a_prompt_counts_too(make):
    stream = make()
    both = paint(stream, **slot("ink", 0.5), **slot("mist", 0.7, 2))
    assert np.array_equal(both, paint(stream, **slot("mist", 0.7, 3), **slot("ink", 0.5, 4)))
    assert np.array_equal(both, paint(stream, **slot("ink", 0.2), **slot("ink", 0.3, 2), **slot("mist", 0.7, 3)))
    assert np.array_equal(both, paint(stream, prompt="neon<lora:ink:0.5><lora:mist:0.7>"))
    assert np.array_equal(both, paint(stream, prompt="neon <LoRA:Ink:0.25> <lyco:mist:0.7>", **slot("ink", 0.25)))
    for one in (slot("ink", 0.5), slot("mist", 0.7)):
        assert apart(both, paint(stream, **one)) > 0.05


def test_a_tag_is_not_read_as_words_and_has_a_weight_for_each_network(make):
    stream = make()
    plain = paint(stream, prompt="neon ink")
    assert np.array_equal(paint(stream, prompt="neon ink<lora:ink:0:0>"), plain)
    words = paint(stream, prompt="neon ink<lora:ink:te=0.8:unet=0>")
    picture = paint(stream, prompt="neon ink<lora:ink:0:0.8>")
    whole = paint(stream, prompt="neon ink<lora:ink:0.8>")
    assert len({array.tobytes() for array in (plain, words, picture, whole)}) == 4
    assert np.array_equal(paint(stream, prompt="neon ink<lora:ink:0.8:0.8>"), whole)
    assert stream.notes()["prompt.tokens"] == 2.0
    paint(stream, prompt="neon<lora:ink:1:1:4>")
    assert "te and unet" in str(stream.notes()["prompt.notes"])


def test_it_is_the_picture_of_a_model_that_it_was_fused_into(make, files):
    """Of the denoiser alone: fused into a model, a LoRA leaves the text encoder as it is."""
    fused = make("sd15", {"loras": ((files("sd15")["ink"], 0.6),)})
    live = make("sd15")
    assert apart(paint(live, prompt="neon<lora:ink:0:0.6>"), paint(fused)) < 0.01
    assert np.array_equal(paint(fused, **slot("mute", 0.0)), paint(fused))


def test_a_cross_fade_moves_the_weight_with_the_words(make):
    clock = Clock()
    stream = make(clock=clock)
    before, after = {"prompt": "neon<lora:ink:1>"}, {"prompt": "gold<lora:mist:0.8>", "prompt_fade": 2.0}
    first = paint(stream, **before)
    stream(FRAME, Params(**after))
    for _ in range(3):  # read, then loaded, then encoded with what acts on it
        assert stream.prompter.settle()
        assert stream.loras.settle()
        stream(FRAME, Params(**after))
    assert stream.notes()["prompt.fade"] == 0.0
    seen = []
    for share in (0.0, 0.25, 0.5, 1.0):
        clock.now = stream.prompter._began + 2.0 * share
        seen.append(stream(FRAME, Params(**after)).copy())
        wanted = {"ink": 1.0 - share, "mist": 0.8 * share}
        assert dict(stream.loras._acting) == pytest.approx({name: w for name, w in wanted.items() if w})
    assert np.array_equal(seen[0], first)
    assert np.array_equal(seen[-1], paint(make(), prompt="gold<lora:mist:0.8>"))
    assert apart(seen[1], first) < apart(seen[2], first)
    stream(FRAME, Params(**after))
    assert set(stream.loras.here) == {"mist"}, "who has faded out is let go of"


# Loading beside the stream


def test_a_prompt_waits_for_its_loras_and_a_slot_acts_when_its_own_is_there(make, monkeypatch):
    stream = make()
    plain, inked = paint(stream), paint(stream, prompt="gold<lora:ink:0.9>", prompt_fade=0.0)
    muted = paint(stream, **slot("mute"))
    paint(stream)
    stream(FRAME, Params())
    gate, load = threading.Event(), stream.loras.shelf._load

    def slow(name: str) -> Any:
        assert gate.wait(60)
        return load(name)

    monkeypatch.setattr(stream.loras.shelf, "_load", slow)
    for _ in range(3):
        assert np.array_equal(stream(FRAME, Params(**slot("mute"))), plain)
    assert stream.notes()["lora.state"] == "loading mute"
    gate.set()
    assert stream.loras.settle()
    assert np.array_equal(stream(FRAME, Params(**slot("mute"))), muted)
    assert np.array_equal(stream(FRAME, Params()), plain)
    gate.clear()
    wanted = Params(prompt="gold<lora:ink:0.9>", prompt_fade=0.0)
    for _ in range(4):
        assert np.array_equal(stream(FRAME, wanted), plain)
        assert stream.prompter.settle()
    assert (stream.notes()["prompt.shown"], stream.notes()["lora.state"]) == ("neon", "loading ink")
    gate.set()
    assert stream.loras.settle()
    for _ in range(3):
        stream(FRAME, wanted)
        assert stream.prompter.settle()
    assert np.array_equal(stream(FRAME, wanted), inked)


def test_what_can_not_act_is_a_sentence_and_prompt_and_stream_go_on(make, files, tmp_path):
    stream = make()
    (tmp_path / "cut.safetensors").write_bytes(files("sd15")["ink"].read_bytes()[:-7])
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04" + b"x" * 99)
    wrong = {name: tmp_path / f"{name}.safetensors" for name in ("cut", "evil", "gone")}
    loras.register({**files("sd15"), **wrong, "wide": files("sdxl")["mist"]})
    plain, gold = paint(stream), paint(stream, prompt="gold")
    for name, words in {
        "cut": "cut short", "evil": "pickle", "gone": "not where it was", "wide": "another kind", "../x": "no LoRA",
        "unheard-of": "no LoRA 'unheard-of'",
    }.items():  # fmt: skip
        assert np.array_equal(paint(stream, prompt=f"gold<lora:{name}:1>"), gold), "the prompt is applied all the same"
        assert words in str(stream.notes()["lora.error"]), name
        assert "\n" not in str(stream.notes()["lora.error"])
        assert np.array_equal(paint(stream, **slot(name)), plain)
        assert words in str(stream.notes()["lora.error"]), name
    assert np.array_equal(paint(stream), plain)
    assert stream.notes()["lora.error"] == ""


def test_one_that_was_mended_is_tried_again_when_it_is_named_again(make, files, tmp_path):
    stream = make()
    late = tmp_path / "late.safetensors"
    loras.register({"late": late})
    plain = paint(stream, **slot("late"))
    late.write_bytes(files("sd15")["ink"].read_bytes())
    assert np.array_equal(paint(stream, **slot("late")), plain)
    paint(stream)
    inked = paint(stream, **slot("late"))
    assert apart(inked, plain) > 0.05
    late.write_bytes(files("sd15")["mist"].read_bytes())
    paint(stream)
    again = paint(stream, **slot("late"))
    assert np.array_equal(again, paint(make(), **slot("mist"))), "neither its weights nor its words are the old ones"


def test_a_prompt_names_so_many_and_no_more(make):
    stream = make()
    paint(stream, prompt="neon" + "".join(f"<lora:x{n}:1>" for n in range(40)))
    assert "40 networks are named, at most 16" in str(stream.notes()["prompt.notes"])
    assert len(stream.loras.shelf.wrong()) == 16


# While it runs


def test_words_follow_a_slot_that_moves_all_the_time_and_restart_no_fade(make):
    clock = Clock()
    stream = make(clock=clock)
    paint(stream, prompt="neon", **slot("ink", 0.0))
    stream(FRAME, Params(prompt="gold", prompt_fade=4.0, **slot("ink", 0.0)))
    assert stream.prompter.settle()
    shown = []
    for number in range(40):
        weight = number / 39
        clock.now += 0.1
        stream(FRAME, Params(prompt="gold", prompt_fade=4.0, **slot("ink", weight)))
        shown.append(stream.prompter._here.words)
        if number % 3 == 0:
            assert stream.prompter.settle()
    assert len({*shown}) > 5, "not only once it rests"
    assert 0.9 < float(stream.notes()["prompt.fade"]) < 1.0, "one fade from end to end"
    clock.now += 1.0
    last = Params(prompt="gold", prompt_fade=4.0, **slot("ink", 1.0))
    stream.tune(last)
    assert np.array_equal(stream(FRAME, last), paint(make(), prompt="gold", **slot("ink", 1.0)))


def test_words_that_change_faster_than_they_are_encoded_are_shown_as_often_as_they_are(make, monkeypatch):
    stream = make()
    paint(stream, **slot("ink", 0.0))
    gate, encode = threading.Event(), stream.prompter._encoded

    def slow(*job: Any) -> Any:
        assert gate.wait(60)
        return encode(*job)

    monkeypatch.setattr(stream.prompter, "_encoded", slow)
    for weight in (0.1, 0.2, 0.3):
        stream(FRAME, Params(**slot("ink", weight)))
        assert stream.prompter._here.words == ()
    gate.set()
    assert stream.prompter.settle()
    stream(FRAME, Params(**slot("ink", 0.4)))
    assert [weight for _, weight, _ in stream.prompter._here.words] == [0.1], "what was begun is shown"
    assert stream.prompter.settle()
    stream(FRAME, Params(**slot("ink", 0.5)))
    assert [weight for _, weight, _ in stream.prompter._here.words] == [0.4], "then what is new by now"


def test_a_prompts_time_goes_on_when_its_lora_comes_late(make, monkeypatch):
    clock = Clock()
    stream = make(clock=clock)
    late = Params(prompt="[neon:gold:3]<lora:mute:1>", prompt_fade=0.0)
    again = DiffusionStream(stream.nets, stream.size, late, clock=clock)
    gate, load = threading.Event(), again.loras.shelf._load

    def slow(name: str) -> Any:
        assert gate.wait(60)
        return load(name)

    monkeypatch.setattr(again.loras.shelf, "_load", slow)
    try:
        again(FRAME, late)
        clock.now += 5.0
        again(FRAME, late)
        assert again.notes()["prompt.step"] == 6.0
        gate.set()
        assert again.loras.settle()
        for _ in range(3):
            again(FRAME, late)
            assert again.prompter.settle()
        assert (again.notes()["prompt.step"], again.notes()["lora.state"]) == (6.0, "mute 1.00")
    finally:
        again.close()


def test_a_prompt_that_changes_from_step_to_step_keeps_its_place_when_words_change(make):
    clock = Clock()
    stream = make(clock=clock)
    values = {"prompt": "[neon:gold:3]", "prompt_fade": 0.0}
    paint(stream, **values, **slot("ink", 0.0))
    clock.now += 5.0
    stream.tune(Params(**values, **slot("ink", 0.0)))
    assert stream.prompter._voice.now == ("gold", "")
    params = Params(**values, **slot("ink", 0.5))
    for _ in range(4):
        picture = stream(FRAME, params).copy()
        assert stream.prompter._voice.now == ("gold", "")
        assert stream.prompter.settle()
    assert np.array_equal(picture, paint(make(), prompt="gold", **slot("ink", 0.5)))


def test_a_captured_frame_shows_a_weight_that_moves_without_a_new_capture(make):
    stream = make()
    paint(stream, **slot("ink", 1.0), **slot("mute", 0.0, 2))
    mode, pixels = stream.knobs.mode, torch.from_numpy(FRAME)
    tape = Tape()
    with torch.inference_mode():
        with tape:
            captured = step(pixels, stream.knobs.recorded(), stream.state, stream.nets)
        first = captured.clone()
        for weights in ((0.3, 0.0), (0.3, -0.7), (0.0, 0.0), (1.0, 0.0)):
            stream.loras.choose(dict(zip(("ink", "mute"), weights, strict=True)), {})
            stream.loras.merge()
            stream.knobs.foreknown.refresh(stream.knobs, stream.nets)
            tape.play()
            seen = captured.clone()
            assert torch.equal(seen, step(pixels, stream.knobs, stream.state, stream.nets))
            assert torch.equal(seen, first) == (weights == (1.0, 0.0))
    assert stream.knobs.mode == mode


def test_a_twin_over_the_same_networks_has_loras_of_its_own(make):
    stream = make()
    plain, inked, misty = paint(stream), paint(stream, **slot("ink")), paint(stream, prompt="neon<lora:mist:0.5>")
    other = stream.twin(Params())
    try:
        for first, second in (({}, slot("ink")), (slot("ink"), {}), (slot("mute"), {"prompt": "neon<lora:mist:0.5>"})):
            stream.tune(Params(**first))
            other.tune(Params(**second))
            for _ in range(2):
                one = stream(FRAME, Params(**first)).copy()
                two = other(FRAME, Params(**second)).copy()
            expected = {"": plain, "ink": inked}.get(str(first.get("lora1_id", "")))
            assert expected is None or np.array_equal(one, expected)
            assert np.array_equal(two, misty if "prompt" in second else inked if second else plain)
    finally:
        other.close()


def test_the_similarity_filter_paints_when_a_weight_moves(make):
    stream = make()
    values = {"similarity_threshold": 64.0, "similarity_max_skip": 1000}
    first = paint(stream, **values, prompt_fade=0.0, **slot("mute", 0.5))
    held = stream.thrift.rest.skipped
    assert np.array_equal(stream(FRAME, Params(**values, prompt_fade=0.0, **slot("mute", 0.5))), first)
    assert stream.thrift.rest.skipped == held + 1
    stream.loras.choose({"mute": 0.9}, {})
    assert apart(stream(FRAME, Params(**values, prompt_fade=0.0, **slot("mute", 0.9))), first) > 0.01


def test_what_nobody_names_any_more_is_freed(make):
    stream = make()
    plain = paint(stream)
    paint(stream, **slot("ink"), **slot("mist", 0.5, 2))
    assert stream.nets.loras.unet._bases
    for _ in range(3):
        picture = paint(stream)
        gc.collect()
    assert np.array_equal(picture, plain)
    assert stream.loras.here == {}
    assert stream.nets.loras.unet._bases == {}
    paint(stream, prompt="ink")
    paint(stream, prompt="neon gold")
    assert [text._bases for text in stream.nets.loras.texts] == [{}]


def test_one_that_the_next_cue_names_is_loaded_ahead_and_does_nothing_yet(make):
    stream = make()
    plain = paint(stream)
    assert np.array_equal(paint(stream, coming=Coming(None, (), ("ink",))), plain)
    assert set(stream.loras.here) == {"ink"}
    # What it takes is there: the first frame that names it has it, without waiting.
    acting = stream(FRAME, Params(**slot("ink"), coming=None)).copy()
    assert not np.array_equal(acting, plain)
