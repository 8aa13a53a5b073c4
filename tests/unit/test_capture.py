"""`step` can be captured as one graph: what CUDA graphs forbid is refused here, and what they freeze is frozen.

The tape is a CUDA graph's stand-in (tests/support/tape.py): a parameter that Python reads would be baked in, and the
replay would show the old value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from engines.base import ControlNet
from engines.edgenets import Hed
from engines.hintnets import EdgeNet
from pipelines.img2img import step
from pipelines.knobs import Knobs
from pipelines.params import Params
from pipelines.preprocess.registry import NETWORK_PREPROCESSORS, PREPROCESSORS
from pipelines.still import still
from pipelines.stream import DiffusionStream
from tests.support.controlnets import write_controlnet
from tests.support.hintnets import lively_hed
from tests.support.tape import HostSync, Tape, tensors

SIDE = 64


@pytest.fixture
def stream(request, shared_nets) -> Iterator[DiffusionStream]:
    made = DiffusionStream(shared_nets(getattr(request, "param", "sd15")), (SIDE, SIDE), Params())
    yield made
    made.close()


def frame(seed: int, shape: tuple[int, ...] = (80, 100, 4)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def handed(knobs: Knobs) -> Knobs:
    """As a recorder hands them to a frame."""
    return still(knobs.recorded())


def run(stream: DiffusionStream, pixels: torch.Tensor, params: Params) -> torch.Tensor:
    stream.turn(params, pixels.shape)
    stream.knobs.foreknown.refresh(stream.knobs, stream.nets)
    return step(pixels, stream.knobs, stream.state, stream.nets).clone()


LIVE = {
    "strength": 0.9, "eta": 0.9, "guidance": 5.0, "delta": 0.7, "mix": 0.8, "seed": 77, "seed2": 5, "seed_mix": 0.4,
}  # fmt: skip
MODES = [
    *itertools.product(["img2img"], ["lcm", "turbo", "tcd", "ddim"], ["off", "full", "self", "onetime"], [1, 2]),
    ("txt2img", "lcm", "full", 3),
    ("txt2img", "turbo", "off", 1),
    ("bypass", "turbo", "off", 1),
]


def check_replay(stream: DiffusionStream, base: dict[str, Any]) -> None:
    pixels = frame(1)
    before, after = Params(**base, guidance=2.0), Params(**{**base, **LIVE})
    stream.knobs.speak(stream.prompter._target)
    run(stream, pixels, before)
    tape = Tape()
    with tape:
        captured = step(pixels, handed(stream.knobs), still(stream.state), stream.nets)
    first, mode = captured.clone(), stream.knobs.mode

    stream.turn(after, pixels.shape)
    stream.knobs.speak(tuple(torch.cat([b, a]) for a, b in (part.chunk(2) for part in stream.prompter._target)))
    stream.knobs.foreknown.refresh(stream.knobs, stream.nets)
    pixels.copy_(frame(2))
    assert stream.knobs.mode == mode
    past = tensors(stream.state)
    kept = [tensor.clone() for tensor in past]
    tape.play()
    for tensor, value in zip(past, kept, strict=True):
        tensor.copy_(value)
    expected = run(stream, pixels, after)
    assert torch.equal(captured, expected)
    if base.get("bypass") is None:
        assert not torch.equal(first, expected)


@pytest.mark.parametrize(("work", "sampler", "guidance", "steps"), MODES)
def test_a_captured_frame_follows_every_live_parameter(work, sampler, guidance, steps, stream):
    base = {"sampler": sampler, "guidance_mode": guidance, "steps": steps}
    check_replay(stream, {**base, **({"bypass": True} if work == "bypass" else {"mode": work})})


@pytest.mark.parametrize("stream", ["sd21", "sdxl", "lcm"], indirect=True)
def test_so_does_every_family(stream):
    check_replay(stream, {"sampler": "tcd", "guidance_mode": "full", "steps": 2})


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
def test_so_does_every_fit(fit, stream):
    check_replay(stream, {"fit": fit})


def test_each_live_parameter_moves_the_replay_by_itself(stream):
    base = {"sampler": "ddim", "guidance_mode": "self", "steps": 2, "guidance": 2.0, "seed_mix": 0.2}
    pixels = frame(1)
    run(stream, pixels, Params(**base))
    tape = Tape()
    with tape:
        captured = step(pixels, handed(stream.knobs), still(stream.state), stream.nets)
    first = captured.clone()
    for name, value in LIVE.items():
        stream.knobs.turn(Params(**{**base, name: value}), pixels.shape)
        stream.knobs.foreknown.refresh(stream.knobs, stream.nets)
        tape.play()
        assert not torch.equal(captured, first), name
        stream.knobs.turn(Params(**base), pixels.shape)
        stream.knobs.foreknown.refresh(stream.knobs, stream.nets)
        tape.play()
        assert torch.equal(captured, first), name


def test_only_the_shape_of_the_work_makes_another_mode(stream):
    stream.knobs.turn(Params(), (80, 100, 3))
    mode = stream.knobs.mode
    for name, value in LIVE.items():
        stream.knobs.turn(Params(**{name: value}), (80, 100, 3))
        assert stream.knobs.mode == mode, name
    others = [{"steps": 2}, {"sampler": "tcd"}, {"guidance_mode": "full"}, {"mode": "txt2img"}, {"bypass": True}]
    for values in [*others, {"fit": "stretch"}]:
        stream.knobs.turn(Params(**values), (80, 100, 3))
        assert stream.knobs.mode != mode, values
    stream.knobs.turn(Params(), (80, 100, 4))
    assert stream.knobs.mode != mode
    assert hash(mode) is not None


def test_an_unmoved_frame_copies_nothing(stream):
    params, shape = Params(seed_mix=0.3), (80, 100, 3)
    stream.knobs.turn(params, shape)
    tape = Tape()
    with tape:
        stream.knobs.turn(params, shape)
    assert not tape.calls
    with tape:
        stream.knobs.turn(Params(seed_mix=0.3, strength=0.2), shape)
    assert [call[0].overloadpacket.__name__ for call in tape.calls].count("copy_") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x * torch.tensor(2.0),
        lambda x: torch.equal(x, x),
    ],
)
def test_the_tape_refuses_what_a_graph_can_not_hold(wrong):
    x = torch.ones(3)
    with pytest.raises(HostSync), torch.inference_mode(), Tape():
        wrong(x)


def test_the_tape_freezes_what_python_reads():
    x, knob = torch.ones(3), {"gain": 2.0}
    with torch.inference_mode(), Tape() as tape:
        out = x * knob["gain"]
    knob["gain"] = 3.0
    x.fill_(10.0)
    tape.play()
    assert out.tolist() == [20.0] * 3


# What recurs

TEMPORAL = [
    {"feedback": 0.5},
    {"feedback": 0.5, "feedback_space": "latent", "smoothing": 0.4, "sampler": "lcm", "steps": 2},
    {"noise_mode": "warp", "sampler": "ddim", "steps": 2},
    {"noise_mode": "travel", "sampler": "tcd", "steps": 2},
    {"smoothing": 0.7, "smoothing_mode": "flow"},
    {"smoothing": 0.7, "noise_mode": "frame", "mode": "txt2img"},
    *(
        {"colour_match": space, "colour_method": method, "colour_reference": reference}
        for space, method, reference in (
            ("lab", "statistics", "input"), ("hsv", "statistics", "first"), ("rgb", "histogram", "captured"),
        )
    ),
    {"feedback": 0.3, "smoothing": 0.3, "colour_match": "lab", "noise_mode": "warp", "guidance_mode": "full"},
]  # fmt: skip


@pytest.mark.parametrize("values", TEMPORAL)
def test_a_frame_that_looks_back_is_captured(values, stream):
    stream.state.picture.copy_(frame(5, (SIDE, SIDE, 3)).permute(2, 0, 1)[None] / 127.5 - 1)
    stream.state.painted.fill_(True)
    stream.state.capture(None)
    check_replay(stream, values)


def test_numbers_of_what_recurs_move_the_replay_and_make_no_other_mode(stream):
    base = {
        "feedback": 0.5, "smoothing": 0.5, "colour_match": "lab", "colour_reference": "input", "colour_amount": 0.5,
        "noise_mode": "travel", "noise_speed": 0.1, "cut_sensitivity": 0.0,
    }  # fmt: skip
    pixels = frame(1, (8, 8, 3)).repeat_interleave(8, 0).repeat_interleave(8, 1)
    for seed in (3, 4):  # so that the past is another picture than the present
        run(stream, pixels, Params(**base, seed=seed))
    past = tensors(stream.state)
    kept = [tensor.clone() for tensor in past]
    tape = Tape()
    with tape:
        captured = step(pixels, handed(stream.knobs), still(stream.state), stream.nets)
    first, mode = captured.clone(), stream.knobs.mode

    def replay(values) -> torch.Tensor:
        for tensor, value in zip(past, kept, strict=True):
            tensor.copy_(value)
        stream.turn(Params(**values, seed=4), pixels.shape)
        assert stream.knobs.mode == mode
        tape.play()
        return captured

    for name, value in {"feedback": 0.9, "smoothing": 0.9, "colour_amount": 0.9, "cut_sensitivity": 4.0}.items():
        changed = replay({**base, name: value})
        assert torch.equal(changed, first) == (name == "cut_sensitivity"), name
        assert torch.equal(replay(base), first), name
    tape.play()
    slow = captured.clone()
    replay({**base, "noise_speed": 0.8})
    tape.play()
    assert not torch.equal(captured, slow)
    assert stream.knobs.mode == mode


# Control units


@pytest.fixture(scope="module")
def a_and_b(shared_nets, model_folder, tmp_path_factory) -> Callable[[str], dict[str, ControlNet]]:
    """The ControlNets `a` and `b` of a kind, loaded once."""
    made: dict[str, dict[str, ControlNet]] = {}

    def of(kind: str) -> dict[str, ControlNet]:
        if kind not in made:
            root, load = tmp_path_factory.mktemp("controls"), shared_nets(kind).load_control
            made[kind] = {
                name: load(write_controlnet(root / name, model_folder(kind), seed)) for seed, name in enumerate("ab")
            }
        return made[kind]

    return of


@pytest.fixture
def steered(request, shared_nets, a_and_b) -> Iterator[DiffusionStream]:
    """A stream of a kind with two ControlNets, `a` and `b`, in place."""
    kind = getattr(request, "param", "sd15")
    nets = shared_nets(kind)
    nets.controlnets.update(a_and_b(kind))
    made = DiffusionStream(nets, (SIDE, SIDE), Params())
    made.show(2, np.random.default_rng(9).integers(0, 256, (50, 70, 4), np.uint8))
    made.pictures.own.choose(Params(control2_source="stream").units(), frame(3))
    yield made
    made.close()


FIRST = {"control1_on": True, "control1_model": "a"}
SECOND = {"control2_on": True, "control2_model": "b"}
BOTH = {**FIRST, **SECOND}
CONTROLS = [
    FIRST,
    {**BOTH, "control1_source": "previous_output", "control2_source": "stream", "control2_mask": "alpha"},
    {**BOTH, "control1_source": "previous_output", "control1_follow": False, "control2_source": "previous_output"},
    {**BOTH, "control1_source": "previous_input", "control1_mode": "control", "control2_resize": "stretch"},
    {**FIRST, "control1_pixel_perfect": False, "control1_resolution": 128, "control1_mask": "inverted"},
    *({**FIRST, "control1_preprocessor": name} for name in PREPROCESSORS),
]


@pytest.mark.parametrize("controls", CONTROLS)
def test_a_frame_with_control_units_is_captured(controls, steered):
    check_replay(steered, {"steps": 2, "guidance_mode": "full", **controls})


@pytest.mark.parametrize("steered", ["sd21", "sdxl", "lcm"], indirect=True)
def test_so_is_one_of_every_family(steered):
    check_replay(steered, {**BOTH, "control1_source": "previous_output", "guidance_mode": "onetime", "steps": 2})


def test_so_is_one_whose_hint_is_looked_at(steered):
    check_replay(steered, {**BOTH, "hint_preview": 2, "control2_source": "stream"})
    assert steered.knobs.mode.hint == 2
    assert bool(steered.state.hint.any())


def test_so_is_one_that_shows_a_network_how_the_input_moves(stream, model_folder, tmp_path):
    folder = write_controlnet(tmp_path / "six", model_folder("sd15"), channels=6)
    stream.nets.controlnets["a"] = stream.nets.load_control(folder)
    check_replay(stream, {**FIRST, "control1_source": "previous_output", "steps": 2})
    assert stream.knobs.mode.units[0].sees_flow


def test_numbers_of_a_unit_move_the_replay_and_make_no_other_mode(steered):
    base = {**FIRST, "control1_preprocessor": "threshold", "guidance_mode": "full", "guidance": 3.0}
    pixels = frame(1)
    run(steered, pixels, Params(**base))
    tape = Tape()
    with tape:
        captured = step(pixels, handed(steered.knobs), still(steered.state), steered.nets)
    first, mode = captured.clone(), steered.knobs.mode
    for name, value in {"weight": 0.5, "low": 30.0, "mode": "control"}.items():
        steered.knobs.turn(Params(**{**base, f"control1_{name}": value}), pixels.shape)
        assert steered.knobs.mode == mode, name
        tape.play()
        assert not torch.equal(captured, first), name
        steered.knobs.turn(Params(**base), pixels.shape)
        tape.play()
        assert torch.equal(captured, first), name


def test_a_unit_that_is_not_moved_copies_nothing(steered):
    params, shape = Params(**BOTH), (80, 100, 3)
    steered.knobs.turn(params, shape)
    tape = Tape()
    with tape:
        steered.knobs.turn(params, shape)
    assert not tape.calls


# Preprocessors with a network


@pytest.mark.parametrize("name", [name for name, made in NETWORK_PREPROCESSORS.items() if not made.beside])
@pytest.mark.parametrize("every", [1, 3])
def test_a_frame_that_is_looked_at_and_one_that_is_not_are_captured(name, every, steered):
    """Two sequences of operations, each followed by what the other left behind."""
    kind = NETWORK_PREPROCESSORS[name].needs
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        steered.nets.hintnets[kind] = EdgeNet(Hed.of(lively_hed(torch.rand(1, 3, SIDE, SIDE))), torch.float32)
    params = Params(**FIRST, control1_preprocessor=name, control1_every=every)
    pixels = frame(1)
    run(steered, pixels, params)
    looks = []
    for seed in (2, 3, 4):
        steered.turn(params, pixels.shape)
        looks.append(steered.knobs.mode.units[0].look)
        past = tensors(steered.state)
        kept = [tensor.clone() for tensor in past]

        def again(past=past, kept=kept) -> None:
            for tensor, value in zip(past, kept, strict=True):
                tensor.copy_(value)

        tape = Tape()
        with tape:
            captured = step(pixels, handed(steered.knobs), still(steered.state), steered.nets)
        first = captured.clone()
        pixels.copy_(frame(seed))
        again()
        tape.play()
        left = [tensor.clone() for tensor in past]
        again()
        expected = step(pixels, steered.knobs, steered.state, steered.nets)
        assert torch.equal(captured, expected)
        assert not torch.equal(first, expected)
        assert all(torch.equal(a, b) for a, b in zip(left, past, strict=True)), "the next frame finds the same past"
    assert looks == (["each"] * 3 if every == 1 else ["carry", "carry", "look"])


def test_a_hint_from_beside_the_stream_is_captured(steered):
    """Three more: motion is followed from here on, followed without an answer, and the answer carried."""
    steered.nets.hintnets["pose"] = lambda image: image.flip(3)
    params = Params(**FIRST, control1_preprocessor="pose")
    pixels, beside, looks = frame(1), steered.knobs.units.beside, []
    for seed in range(2, 7):
        beside.collect()
        steered.turn(params, pixels.shape)
        looks.append(steered.knobs.mode.units[0].look)
        past = tensors(steered.state)
        kept = [tensor.clone() for tensor in past]
        tape = Tape()
        with tape:
            captured = step(pixels, handed(steered.knobs), still(steered.state), steered.nets)
        pixels.copy_(frame(seed))
        for tensor, value in zip(past, kept, strict=True):
            tensor.copy_(value)
        tape.play()
        left = [tensor.clone() for tensor in past]
        for tensor, value in zip(past, kept, strict=True):
            tensor.copy_(value)
        assert torch.equal(captured, step(pixels, steered.knobs, steered.state, steered.nets))
        assert all(torch.equal(a, b) for a, b in zip(left, past, strict=True))
        if seed == 3:
            steered.unitnets.follow(params.units(), ())
            steered.unitnets.look_beside(steered.state)
            assert beside.settle(60)
    assert looks == ["watch", "follow", "carry", "carry", "carry"]
