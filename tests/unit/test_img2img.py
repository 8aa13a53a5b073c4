"""The painted picture: what each parameter does to it, on small untrained networks loaded through the ordinary code."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from pipelines.params import Params
from pipelines.stream import DiffusionStream

SIDE = 64
FRAME = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
KINDS = ["sd15", "sd21", "sdxl", "lcm"]


@pytest.fixture
def make(shared_nets) -> Iterator:
    made = []

    def new(kind="sd15", tiny=True, prediction=None, **options):
        nets = shared_nets(kind, (SIDE, SIDE), tiny, prediction)
        made.append(DiffusionStream(nets, (SIDE, SIDE), Params(), **options))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


def paint(stream, frame=FRAME, **values):
    return stream(frame, Params(**values)).copy()


def apart(a, b):
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("tiny", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_paints_with_every_sampler_and_guidance(kind, tiny, make):
    stream = make(kind, tiny)
    for sampler in ("lcm", "turbo", "tcd", "ddim", "auto"):
        for mode in ("img2img", "txt2img"):
            picture = paint(stream, sampler=sampler, mode=mode, steps=2)
            assert picture.shape == (SIDE, SIDE, 3)
            assert picture.std() > 0
    for guidance in ("full", "self", "onetime"):
        paint(stream, guidance_mode=guidance, guidance=3.0, steps=2)
    assert stream.notes()["guard.held"] == 0


@pytest.mark.parametrize("sampler", ["lcm", "turbo", "tcd", "ddim"])
def test_steps_one_to_eight_differ_and_repeat(sampler, make):
    stream = make()
    pictures = [paint(stream, sampler=sampler, steps=steps) for steps in range(1, 9)]
    again = [paint(stream, sampler=sampler, steps=steps) for steps in range(1, 9)]
    assert all(np.array_equal(a, b) for a, b in zip(pictures, again, strict=True))
    assert all(apart(a, b) > 0 for a, b in itertools.pairwise(pictures))


def test_more_strength_changes_more(make):
    stream = make()
    untouched = paint(stream, strength=0.0, sampler="turbo")
    changes = [apart(paint(stream, strength=s, sampler="turbo"), untouched) for s in np.linspace(0.05, 1.0, 20)]
    assert np.all(np.diff(changes) > 0)
    assert apart(paint(stream, strength=0.35), paint(stream, strength=0.40)) > 0


def test_the_walk_between_seeds_ends_on_their_own_pictures(make):
    stream = make()
    first, second = paint(stream, seed=5), paint(stream, seed=9)
    assert np.array_equal(paint(stream, seed=5, seed2=9, seed_mix=0.0), first)
    assert np.array_equal(paint(stream, seed=5, seed2=9, seed_mix=1.0), second)
    assert np.array_equal(paint(stream, seed=5, seed2=5, seed_mix=0.5), first)
    between = paint(stream, seed=5, seed2=9, seed_mix=0.5)
    assert min(apart(between, first), apart(between, second)) > 0
    for sampler in ("lcm", "ddim"):  # the fresh noise between steps walks along
        values = {"sampler": sampler, "steps": 3, "eta": 1.0}
        assert np.array_equal(paint(stream, seed=5, seed2=9, seed_mix=1.0, **values), paint(stream, seed=9, **values))


def test_guidance_of_one_is_off_and_more_of_it_is_not(make):
    stream = make("sd21")
    off = paint(stream, steps=2, negative="ink")
    for mode in ("full", "self", "onetime"):
        assert apart(paint(stream, steps=2, negative="ink", guidance_mode=mode, guidance=1.0), off) < 0.05
        assert apart(paint(stream, steps=2, negative="ink", guidance_mode=mode, guidance=6.0), off) > 0.05
    assert np.array_equal(paint(stream, steps=2, negative="ink", guidance=6.0), off)


def test_onetime_is_full_guidance_when_there_is_one_step(make):
    stream = make()
    values = {"negative": "ink", "guidance": 4.0, "strength": 0.8}
    full = paint(stream, guidance_mode="full", **values)
    assert apart(paint(stream, guidance_mode="onetime", **values), full) < 0.02
    assert apart(paint(stream, guidance_mode="self", **values), full) > 0.02


def test_the_negative_prompt_and_delta_matter_with_guidance(make):
    stream = make()
    values = {"guidance_mode": "full", "guidance": 8.0, "prompt_fade": 0.0}
    plain = paint(stream, **values)
    stream.prompter.ask("neon", "gold", 0.0)
    assert stream.prompter.settle()
    assert apart(paint(stream, negative="gold", **values), plain) > 0
    values["guidance_mode"] = "self"
    assert apart(paint(stream, delta=0.5, **values), paint(stream, delta=1.0, **values)) > 0


def test_a_network_that_takes_guidance_gets_it_without_a_second_run(make):
    stream = make("lcm", scale=8.0)
    own = paint(stream)
    assert np.array_equal(paint(stream, guidance=3.0), own)
    assert np.array_equal(paint(stream, guidance_mode="full", guidance=8.0), own)
    assert apart(paint(stream, guidance_mode="full", guidance=3.0), own) > 0
    assert stream.knobs.mode.guidance == "off"


def test_txt2img_ignores_the_input_and_img2img_does_not(make):
    stream, other = make(), 255 - FRAME
    assert np.array_equal(paint(stream, mode="txt2img"), paint(stream, other, mode="txt2img"))
    assert np.array_equal(paint(stream, mode="txt2img", strength=0.1), paint(stream, mode="txt2img", strength=0.9))
    assert apart(paint(stream), paint(stream, other)) > 1


def test_mix_bypass_and_pause(make):
    stream = make()
    painted, bypassed = paint(stream), paint(stream, bypass=True)
    assert np.array_equal(bypassed, FRAME)
    assert np.array_equal(paint(stream, mix=0.0), FRAME)
    half = paint(stream, mix=0.5).astype(int)
    assert np.abs(half - (painted.astype(int) + FRAME) / 2).max() <= 1
    assert np.array_equal(paint(stream, 255 - FRAME, pause=True), half)


def test_two_streams_do_not_know_of_each_other(make):
    one, two = make(), make()
    expected = [paint(one, seed=s) for s in (1, 2, 3)]
    other = []
    for s in (1, 2, 3):
        paint(one, 255 - FRAME, seed=7, strength=0.9)
        other.append(paint(two, seed=s))
    assert all(np.array_equal(a, b) for a, b in zip(expected, other, strict=True))


def test_reset_gives_the_first_picture_again(make):
    stream = make()
    first = paint(stream)
    paint(stream, 255 - FRAME, seed=4)
    stream.reset()
    assert np.array_equal(paint(stream), first)
    stream.reset()
    broken(stream)
    assert np.array_equal(paint(stream), FRAME), "no picture from before the reset is held"


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1, 1), (288, 1550, 3), (2160, 4096, 4), (63, 65, 4)])
def test_any_input_size_is_fitted(shape, make):
    stream = make()
    frame = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    frame.flags.writeable = False
    for fit in ("crop", "letterbox", "stretch"):
        assert paint(stream, frame, fit=fit).shape == (SIDE, SIDE, 3)
    assert paint(stream, frame[::-1, :, :]).shape == (SIDE, SIDE, 3)


def broken(stream):
    """The stream with a UNet that says NaN."""
    unet = stream.nets.unet

    def nan(*args, **kwargs):
        return unet(*args, **kwargs) * float("nan")

    stream.nets = dataclasses.replace(stream.nets, unet=nan)
    return unet


def test_networks_that_say_nan_never_reach_the_picture(make):
    stream = make()
    unet = broken(stream)
    assert np.array_equal(paint(stream), FRAME), "nothing painted yet: the input"
    stream.nets = dataclasses.replace(stream.nets, unet=unet)
    good = paint(stream)
    assert bool(stream.state.unbroken)
    broken(stream)
    assert np.array_equal(paint(stream, 255 - FRAME), good), "the last good picture"
    assert not bool(stream.state.unbroken)
    assert stream.notes()["guard.held"] == 2
    stream.nets = dataclasses.replace(stream.nets, unet=unet)
    assert np.array_equal(paint(stream), good)


def test_nan_weights_give_a_finite_picture(make, model_folder):
    stream = make("sd21")
    own = EagerEngine().load(model_folder("sd21"), Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    stream.nets = dataclasses.replace(stream.nets, unet=own.unet)
    with torch.inference_mode():
        stream.nets.unet.net.conv_in.weight.fill_(float("nan"))
    assert np.array_equal(paint(stream), FRAME)
