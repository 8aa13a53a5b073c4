"""What the rows of noise and coherence do to a running stream, on small untrained networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from bridge.sources.scene import draw
from pipelines.coherence.measure import colour_drift
from pipelines.params import Params
from pipelines.stream import DiffusionStream

SIDE = 64
WIDE = draw(3.0, 4 * SIDE, SIDE, 1)
OTHER = draw(5.0, SIDE, SIDE, 2)
"""Another scene, at another time of day."""

Make = Callable[..., DiffusionStream]


def view(x: int) -> np.ndarray:
    """The camera, turned `x` px to the right."""
    return np.ascontiguousarray(WIDE[:, x : x + SIDE])


FRAME = view(0)


@pytest.fixture
def make(shared_nets) -> Iterator[Make]:
    made: list[DiffusionStream] = []

    def new(kind: str = "sd15") -> DiffusionStream:
        made.append(DiffusionStream(shared_nets(kind), (SIDE, SIDE), Params()))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


def paint(stream: DiffusionStream, frame: np.ndarray = FRAME, **values) -> np.ndarray:
    return stream(frame, Params(**values)).copy()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


OFF = [
    {"feedback": 0.0, "feedback_space": "latent"},
    {"smoothing": 0.0},
    {"colour_match": "off", "colour_amount": 1.0, "colour_reference": "input"},
    {"colour_match": "lab", "colour_amount": 0.0},
    {"cut_sensitivity": 3.0, "similarity_max_skip": 3},
    {"noise_mode": "fixed", "noise_speed": 1.0},
    {"feedback": 0.7, "mode": "txt2img"},
]


@pytest.mark.parametrize("values", OFF)
def test_off_is_the_picture_without_bit_by_bit_and_costs_nothing(values, make):
    stream, plain = make(), make()
    mode = {"mode": values.get("mode", "img2img")}
    for x in (0, 3, 6):
        assert np.array_equal(paint(stream, view(x), **values), paint(plain, view(x), **mode))
    assert stream.knobs.mode == plain.knobs.mode, "nothing of it is in the sequence of operations"
    assert not stream.knobs.mode.looks_back


RECURRENT = [
    {"feedback": 0.6},
    {"feedback": 0.6, "feedback_space": "latent"},
    {"smoothing": 0.8},
    {"smoothing": 0.8, "smoothing_mode": "flow"},
    {"feedback": 0.5, "smoothing": 0.5, "colour_match": "lab", "colour_reference": "first"},
]


@pytest.mark.parametrize("values", RECURRENT)
def test_the_past_counts_and_a_first_frame_has_none(values, make):
    stream, plain = make(), make()
    busy = {"noise_mode": "frame"}  # so that two pictures of one input differ
    first = [paint(s, FRAME, **busy, **v) for s, v in ((stream, values), (plain, {}))]
    assert apart(*first) < 1.0, "to a level, where colours are matched to themselves"
    second = [paint(s, FRAME, **busy, **v) for s, v in ((stream, values), (plain, {}))]
    assert apart(*second) > 0.2


@pytest.mark.parametrize("what", ["cut", "size", "nan", "bypass", "reset"])
@pytest.mark.parametrize("values", RECURRENT)
def test_what_breaks_the_past_gives_the_picture_of_a_first_frame(values, what, make):
    stream = make()
    for x in (0, 2, 4):
        paint(stream, view(x), **values)
    frame = view(4)
    if what == "cut":
        frame = OTHER
    elif what == "size":
        frame = np.dstack([frame, frame[..., :1]])
    elif what == "nan":
        stream.state.unbroken.fill_(False)
    elif what == "bypass":
        paint(stream, frame, bypass=True, **values)
    else:
        stream.reset()
    expected = paint(make(), frame, **values)
    kept = "colour_match" in values and what in ("nan", "size", "bypass")
    assert apart(paint(stream, frame, **values), expected) <= (8.0 if kept else 0.0), "a reference outlives those"


def test_sensitivity_0_never_cuts_and_cuts_are_told(make):
    stream = make()
    for frame in (FRAME, view(2), OTHER, OTHER, FRAME):
        paint(stream, frame, smoothing=0.5, cut_sensitivity=1.0)
    assert stream.notes()["coherence.cuts"] == 2.0
    assert stream.notes()["coherence.difference"] > 1.0
    for frame in (OTHER, FRAME):
        paint(stream, frame, smoothing=0.5, cut_sensitivity=0.0)
    assert stream.notes()["coherence.cuts"] == 2.0


def test_feedback_moves_the_last_picture_as_the_input_moved(make):
    """A mark that only the past has, in pixels or in latents, is 8 px further left in what is painted over next."""
    for space, marked, left in (("pixel", np.s_[..., 20:28, 36:44], 28), ("latent", np.s_[..., 3:5, 5:6], 4)):
        begun = []
        for mark in (False, True):
            stream = make()
            encode, unet = stream.nets.encode, stream.nets.unet
            seen = {}
            stream.nets = dataclasses.replace(
                stream.nets,
                encode=lambda x, seen=seen, encode=encode: encode(seen.setdefault("pixel", x)),
                unet=lambda x, *rest, seen=seen, unet=unet: unet(seen.setdefault("latent", x), *rest),
            )
            values = {"strength": 0.0, "feedback": 1.0, "feedback_space": space, "cut_sensitivity": 0.0}
            paint(stream, view(0), **values)
            past = stream.state.picture if space == "pixel" else stream.state.latent
            past[marked] += 3.0 * mark
            seen.clear()
            paint(stream, view(8), **values)
            begun.append(seen[space])
        gain = (begun[1] - begun[0]).abs().sum(dim=(0, 1, 2))
        centre = float((gain * torch.arange(len(gain))).sum() / gain.sum()) + 0.5
        wide = marked[-1].stop - marked[-1].start
        assert abs(centre - (left + wide / 2)) < 0.1 * wide, space


def test_feedback_amount_is_continuous(make):
    pictures = []
    for amount in (0.0, 0.1, 0.5, 1.0):
        stream = make()
        paint(stream, FRAME, seed=4)
        stream.state.latent.copy_(stream.nets.encode(stream.state.picture).detach())
        stream.turn(Params(feedback=0.1), FRAME.shape)
        stream.state.followed.fill_(True)
        stream.state.source.copy_(torch.from_numpy(FRAME).permute(2, 0, 1)[None].float() / 127.5 - 1)
        stream.state.cut(stream.state.source, torch.tensor(1.0))
        pictures.append(paint(stream, FRAME, feedback=amount))
    changes = [apart(p, pictures[0]) for p in pictures]
    assert changes == sorted(changes)
    assert 0 < changes[1] < changes[3]


def test_smoothing_holds_what_stands_still_and_lets_through_what_moves(make):
    smooth, plain = make(), make()
    frames = []
    for n in range(8):
        frame = FRAME.copy()
        frame[32:, 4 * n : 4 * n + 32] = 255 - 30 * n
        frames.append(frame)
    values = {"noise_mode": "frame"}
    steady = np.stack([paint(smooth, f, smoothing=0.9, **values) for f in frames]).astype(int)
    boiling = np.stack([paint(plain, f, **values) for f in frames]).astype(int)
    still, moving = np.s_[:, :20], np.s_[44:, 28:48]
    assert np.abs(np.diff(steady[still], axis=0)).mean() < 0.4 * np.abs(np.diff(boiling[still], axis=0)).mean()
    assert np.array_equal(steady[5][moving], boiling[5][moving])


def test_smoothing_along_the_flow_steadies_what_moves_at_once(make):
    """A pan: what is shown, moved as the input moved, is what is shown next, to within what is new."""
    errors = {}
    for name, values in {"plain": {}, "still": {"smoothing": 0.8}, "flow": {"smoothing": 0.8}}.items():
        stream = make()
        how = {"smoothing_mode": name} if values else {}
        shown = [paint(stream, view(2 * n), noise_mode="frame", **values, **how) for n in range(10)]
        errors[name] = np.mean([apart(b[:, :-2], a[:, 2:]) for a, b in pairwise(shown[4:])])
    assert errors["flow"] < 0.5 * errors["plain"]
    assert errors["still"] > 0.8 * errors["plain"]


def test_what_is_moved_stays_within_a_bytes_range(make):
    """Bicubic overshoots; a byte would wrap around, and white be black."""
    stream = make()
    edges = np.kron(np.indices((8, 8)).sum(axis=0) % 2 * 255, np.ones((8, 8))).astype(np.uint8)[..., None].repeat(3, 2)
    values = {"smoothing": 1.0, "smoothing_mode": "flow", "cut_sensitivity": 0.0}
    paint(stream, edges, **values)
    stream.state.shown.copy_(torch.from_numpy(edges).permute(2, 0, 1)[None].float() / 127.5 - 1)
    shown = paint(stream, np.roll(edges, 1, axis=1), **values)
    kept = stream.state.shown[0].permute(1, 2, 0).numpy() * 127.5 + 127.5
    assert np.abs(shown - kept).max() <= 1


def test_turning_smoothing_on_begins_with_what_is_on_show(make):
    stream, plain = make(), make()
    for each in (stream, plain):
        paint(each, FRAME, feedback=0.01)
    shown = paint(stream, FRAME, feedback=0.01, smoothing=1.0, seed=9)
    without = paint(plain, FRAME, feedback=0.01, seed=9)
    before = np.asarray(plain.state.shown.abs().max())
    assert before == 0.0
    assert apart(shown, without) > 0.1, "not black, and not the new picture alone"
    assert abs(float(shown.mean()) - float(without.mean())) < 20


# Noise


def test_noise_per_frame_boils_and_travelling_noise_melts(make):
    still, boil, melt = make(), make(), make()
    pictures = {
        "still": [paint(still) for _ in range(4)],
        "boil": [paint(boil, noise_mode="frame") for _ in range(4)],
        "melt": [paint(melt, noise_mode="travel", noise_speed=0.1) for _ in range(4)],
    }
    changes = {name: apart(p[2], p[3]) for name, p in pictures.items()}
    assert changes["still"] == 0
    assert 0 < changes["melt"] < 0.5 * changes["boil"]
    assert np.array_equal(pictures["boil"][0], pictures["melt"][0]), "both begin at the seed"
    stands = make()
    assert np.array_equal(*(paint(stands, noise_mode="travel", noise_speed=0.0) for _ in range(2)))


@pytest.mark.parametrize("noise_mode", ["frame", "travel", "warp"])
def test_noise_that_moves_is_decided_by_seed_and_frames(noise_mode, make):
    values = {"noise_mode": noise_mode, "noise_speed": 0.3, "steps": 2, "sampler": "lcm"}
    one, two = make(), make()
    runs = [[paint(s, view(2 * n), **values) for n in range(4)] for s in (one, two)]
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))
    assert apart(paint(one, view(0), seed=8, **values), paint(two, view(0), seed=9, **values)) > 0
    one.reset()
    again = [paint(one, view(2 * n), **values) for n in range(4)]
    assert all(np.array_equal(a, b) for a, b in zip(runs[0], again, strict=True))


def test_warped_noise_begins_as_the_seeds_and_goes_where_the_input_goes(make):
    stream, fixed = make(), make()
    seeded = {"seed": 5, "seed_mix": 0.3}
    assert apart(paint(stream, noise_mode="warp", **seeded), paint(fixed, **seeded)) < 0.1
    before = stream.knobs.noise[0].clone()
    for x in range(4, 20, 4):
        paint(stream, view(x), noise_mode="warp", **seeded)  # 16 px to the left: 2 latent pixels
    grains = stream.state.moving
    assert grains is not None
    now = torch.nn.functional.avg_pool2d(grains.grains[:1], grains.cells) * grains.cells

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])

    assert alike(now[..., :-3], before[..., 2:-1]) > 0.6
    assert alike(now, before) < 0.3
    assert np.array_equal(paint(fixed, **seeded), paint(make(), **seeded)), "the seed's own noise is left alone"


def test_more_steps_take_more_noise_and_another_seed_begins_anew(make):
    stream = make()
    for steps in (1, 3, 2):
        paint(stream, noise_mode="warp", sampler="ddim", steps=steps)
        assert stream.state.moving.grains[: steps + 1].std() > 0.9
    count = int(stream.state.moving.count)
    paint(stream, noise_mode="warp", sampler="ddim", steps=2)
    assert int(stream.state.moving.count) == count + 1
    paint(stream, noise_mode="warp", sampler="ddim", steps=2, seed=77)
    assert int(stream.state.moving.count) == 1


# Colours


def warm(frame: np.ndarray) -> np.ndarray:
    return (frame * np.array([1.0, 0.6, 0.3])).astype(np.uint8)


@pytest.mark.parametrize("method", ["statistics", "histogram"])
@pytest.mark.parametrize("space", ["lab", "hsv", "rgb"])
def test_colours_go_to_the_inputs(space, method, make):
    stream = make()
    values = {"colour_match": space, "colour_method": method, "colour_reference": "input"}
    for frame in (FRAME, warm(FRAME)):
        plain = colour_drift(frame, paint(stream, frame))
        half = colour_drift(frame, paint(stream, frame, **values, colour_amount=0.5))
        whole = colour_drift(frame, paint(stream, frame, **values))
        assert whole < half < plain
        assert whole < (0.35 if space != "hsv" else 0.7) * plain


def test_the_first_picture_is_the_reference_until_a_cut(make):
    stream = make()
    values = {"colour_match": "lab", "colour_reference": "first", "cut_sensitivity": 2.0}
    first = paint(stream, FRAME, **values)
    later = paint(stream, warm(FRAME), **values)
    assert colour_drift(first, later) < 0.5 * colour_drift(first, paint(make(), warm(FRAME)))
    cut = paint(stream, OTHER, **values)
    assert stream.notes()["coherence.cuts"] == 1.0
    assert apart(cut, paint(make(), OTHER)) < 1.0


def test_a_trigger_catches_the_colours_on_show(make):
    stream = make()
    values = {"colour_match": "lab", "colour_reference": "captured"}
    assert np.array_equal(paint(stream, FRAME, **values), paint(make(), FRAME)), "nothing is caught yet"
    warmer = paint(stream, warm(FRAME))
    paint(stream, warm(FRAME), colour_capture=1)
    for space in ("lab", "rgb", "lab"):
        seen = paint(stream, FRAME, **{**values, "colour_match": space}, colour_capture=1)
        plain = paint(make(), FRAME)
        assert colour_drift(warmer, seen) < 0.3 * colour_drift(warmer, plain), "in any space, whenever it is turned on"
    held = paint(stream, FRAME, **values, colour_capture=0)
    assert np.array_equal(held, paint(stream, FRAME, **values, colour_capture=0)), "0 catches nothing"
    paint(stream, OTHER, strength=1.0, seed=3, colour_capture=7)
    assert apart(paint(stream, FRAME, **values, colour_capture=7), held) > 0.5
    stream.reset()
    assert np.array_equal(paint(stream, FRAME, **values), paint(make(), FRAME))


def test_feedback_with_colours_held_does_not_drift(make):
    """The loop through an autoencoder that was never trained runs off; held to the input, it can't."""
    drifts = {}
    for match in ("off", "lab"):
        stream = make()
        values = {"feedback": 0.9, "colour_match": match, "colour_reference": "first", "strength": 0.3}
        pictures = [paint(stream, FRAME, **values) for _ in range(12)]
        drifts[match] = colour_drift(pictures[0], pictures[-1])
    assert drifts["lab"] < 0.5 * drifts["off"]


def test_a_frame_that_is_not_finite_breaks_nothing_that_recurs(make):
    stream = make()
    values = {
        "feedback": 0.7, "smoothing": 0.7, "colour_match": "lab", "colour_method": "histogram", "noise_mode": "warp",
    }  # fmt: skip
    for x in (0, 2):
        paint(stream, view(x), **values)
    with torch.inference_mode():
        stream.knobs.speak([torch.full_like(part, float("nan")) for part in stream.knobs.both])
    assert paint(stream, view(4), **values).std() > 0
    assert stream.notes()["guard.held"] == 1.0
    stream.knobs.speak(stream.prompter._target)
    for x in (6, 8):
        picture = paint(stream, view(x), **values)
    assert stream.notes()["guard.held"] == 1.0
    assert cv2.Laplacian(picture, cv2.CV_32F).var() > 0
    assert all(t.isfinite().all() for t in (stream.state.picture, stream.state.shown, stream.state.latent))


# The similarity filter


def count_steps(stream: DiffusionStream) -> list[int]:
    """How often the networks ran, so far, at [0]."""
    runs, unet = [0], stream.nets.unet

    def counted(*args):
        runs[0] += 1
        return unet(*args)

    stream.nets = dataclasses.replace(stream.nets, unet=counted)
    return runs


def test_an_input_that_rests_runs_no_network_and_never_starves(make):
    stream = make()
    runs = count_steps(stream)
    values = {"similarity_threshold": 3.0, "similarity_max_skip": 4}
    first = paint(stream, FRAME, **values)
    noisy = [np.clip(FRAME + (n % 2), 0, 255).astype(np.uint8) for n in range(10)]
    shown = [paint(stream, frame, **values) for frame in noisy]
    assert all(np.array_equal(picture, first) for picture in shown[:4])
    assert runs[0] == 3, "the first, and after four skips in a row one each"
    assert stream.notes()["coherence.skipped"] == 8
    assert 0 < stream.notes()["coherence.change"] < 3.0
    moved = FRAME.copy()
    moved[10:20, 10:20] = 255 - moved[10:20, 10:20]
    assert np.array_equal(paint(stream, moved, **values), paint(make(), moved)), "decided on this very frame"


def test_a_slow_drift_adds_up_until_it_is_painted(make):
    stream = make()
    runs = count_steps(stream)
    for n in range(12):
        paint(stream, np.clip(FRAME // 2 + n, 0, 255).astype(np.uint8), similarity_threshold=5.0)
    assert runs[0] == 3


@pytest.mark.parametrize("what", ["number", "prompt", "own", "reset", "size", "bypass", "txt2img", "threshold", "nan"])
def test_whatever_else_decides_the_picture_wakes_the_filter(what, make):
    stream = make()
    runs = count_steps(stream)
    values = {"similarity_threshold": 3.0, "version": 1}
    for _ in range(3):
        paint(stream, FRAME, **values)
    assert runs[0] == 1
    frame = FRAME
    if what == "number":
        values["strength"] = 0.61
    elif what == "prompt":
        stream.tune(Params(prompt="ink"))
        values |= {"prompt": "ink", "prompt_fade": 0.0}
    elif what == "own":
        stream.show(1, OTHER)
    elif what == "reset":
        stream.reset()
    elif what == "size":
        frame = FRAME[:60]
    elif what == "bypass":
        assert apart(paint(stream, FRAME, bypass=True, **values), FRAME) < 1
    elif what == "txt2img":
        values["mode"] = "txt2img"
    elif what == "threshold":
        values["similarity_threshold"] = 0.0
    elif what == "nan":
        stream.state.held.add_(1)
        stream._counts[0] += 1
    paint(stream, frame, **values)
    assert runs[0] == 2
    paint(stream, frame, **{**values, "version": 2})
    assert runs[0] == (3 if what in ("txt2img", "threshold") else 2), "a version alone is nothing new"
