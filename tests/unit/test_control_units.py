"""Control units: what each of their parameters does to the picture, on small ControlNets with random weights."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.base import Build
from engines.eager import EagerEngine
from engines.registry import Registry
from pipelines.params import Params
from pipelines.preprocess.registry import PREPROCESSORS
from pipelines.stream import DiffusionStream
from pipelines.unitrow import UNITS, Unit
from pipelines.units import layer_weights
from tests.support.controlnets import register, write_controlnet

SIDE = 64
RNG = np.random.default_rng(0)
SMOOTH = np.kron(RNG.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
FRAME, OTHER = SMOOTH, np.ascontiguousarray(255 - SMOOTH[::-1])
_TURN = 2 * np.pi * np.arange(SIDE) / SIDE
WAVES = np.stack(
    [127 + 60 * np.sin(a * _TURN + 1) + 60 * np.sin(b * _TURN[:, None]) for a, b in ((2, 3), (3, 2), (4, 3))], -1
).astype(np.uint8)
"""Something that can be followed wherever it goes."""
KINDS = ["sd15", "sd21", "sdxl", "lcm"]

Make = Callable[..., DiffusionStream]


@pytest.fixture(scope="module")
def nets(model_folder, tmp_path_factory) -> Callable[[str], dict[str, Path]]:
    """Two ControlNets for the model of a kind: `a` and `b`."""
    made: dict[str, dict[str, Path]] = {}

    def folders(kind: str) -> dict[str, Path]:
        if kind not in made:
            root = tmp_path_factory.mktemp(f"controlnets-{kind}")
            made[kind] = {
                name: write_controlnet(root / name, model_folder(kind), seed) for seed, name in enumerate("ab")
            }
        return made[kind]

    return folders


@pytest.fixture
def make(shared_nets, nets) -> Iterator[Make]:
    made: list[DiffusionStream] = []

    def new(kind: str = "sd15", size: tuple[int, int] = (SIDE, SIDE), **options) -> DiffusionStream:
        register(nets(kind))
        made.append(DiffusionStream(shared_nets(kind, size), size, Params(), **options))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


def unit(number: int = 1, model: str = "a", **values) -> dict[str, object]:
    """Parameters of one unit that is on."""
    return {f"control{number}_{name}": value for name, value in {"on": True, "model": model, **values}.items()}


def paint(stream: DiffusionStream, frame=FRAME, **values):
    """One frame, once the ControlNets that it names are there."""
    params = Params(**values)
    stream.tune(params)
    return stream(frame, params).copy()


def apart(a, b) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_off_or_weight_0_is_the_picture_without_bit_by_bit_and_costs_nothing(kind, make):
    stream = make(kind)
    plain = paint(stream, steps=2)
    acting = paint(stream, steps=2, **unit())
    assert apart(acting, plain) > 0.2
    assert stream.knobs.mode.units
    for idle in ({"weight": 0.0}, {"on": False}, {"model": "none"}, {"start": 0.9, "end": 0.95}, {"end": 0.3}):
        assert np.array_equal(paint(stream, steps=2, **unit(**idle)), plain), idle
        assert stream.knobs.mode.units == (), "nothing of it is in the sequence of operations"
    assert np.array_equal(paint(stream, steps=2, **unit()), acting)


def test_weight_is_continuous_and_units_add_up(make):
    stream = make()
    plain = paint(stream)
    changes = [apart(paint(stream, **unit(weight=w)), plain) for w in (0.05, 0.5, 1.0, 2.0)]
    assert changes == sorted(changes)
    assert changes[0] > 0
    both = paint(stream, **unit(1, "a"), **unit(2, "b"))
    assert np.array_equal(both, paint(stream, **unit(3, "b"), **unit(4, "a"))), "in any place"
    assert apart(both, paint(stream, **unit(1, "a"))) > 0.05
    assert apart(both, paint(stream, **unit(1, "b"))) > 0.05
    twice = paint(stream, **unit(1, "a", weight=0.5), **unit(2, "a", weight=0.5))
    assert apart(twice, paint(stream, **unit(1, "a"))) < 0.02, "the same one at half the weight twice"


def test_start_and_end_count_noise_so_that_one_step_has_them_too(make):
    stream = make()
    plain = paint(stream, strength=0.6)
    on = paint(stream, strength=0.6, **unit())
    for window, acts in (((0.0, 0.35), False), ((0.0, 0.4), True), ((0.4, 1.0), True), ((0.45, 1.0), False)):
        picture = paint(stream, strength=0.6, **unit(start=window[0], end=window[1]))
        assert np.array_equal(picture, on if acts else plain), window
    values = {"strength": 1.0, "steps": 4, "sampler": "turbo"}
    paint(stream, **values, **unit(start=0.2, end=0.6))
    assert stream.knobs.mode.units[0].steps == (False, True, True, False)


def test_control_modes_are_the_web_uis(make):
    assert np.allclose(layer_weights(0.5, "balanced", 13), 0.5)
    prompt = layer_weights(0.5, "prompt", 13)
    assert np.allclose(prompt[:, 0], prompt[:, 1])
    assert np.allclose(prompt[:, 1], [0.5 * 0.825 ** (12 - i) for i in range(13)])
    control = layer_weights(0.5, "control", 13)
    assert np.allclose(control[:, 1], prompt[:, 1])
    assert not control[:, 0].any()
    stream = make()
    guided = {"guidance_mode": "full", "guidance": 4.0, "negative": "ink", "prompt_fade": 0.0}
    for values in ({}, guided):
        pictures = [paint(stream, **values, **unit(mode=mode)) for mode in ("balanced", "prompt", "control")]
        assert apart(pictures[0], pictures[1]) > 0
        assert (apart(pictures[1], pictures[2]) > 0) == bool(values), "without guidance there is no negative side"
        assert ("guidance_mode full" in str(stream.notes()["control.error"])) == (not values)
    assert len({stream.knobs.mode._replace(units=()) for _ in range(2)}) == 1


@pytest.mark.parametrize("guidance", ["full", "self", "onetime"])
def test_every_guidance_and_txt2img_take_units(guidance, make):
    stream = make("sd21")
    values = {"guidance_mode": guidance, "guidance": 3.0, "steps": 2}
    for mode in ("img2img", "txt2img"):
        assert apart(paint(stream, mode=mode, **values, **unit()), paint(stream, mode=mode, **values)) > 0.05
    assert stream.notes()["guard.held"] == 0


def test_the_source_decides_what_steers(make):
    stream = make()
    values = {"mode": "txt2img"}
    by_input = paint(stream, FRAME, **values, **unit())
    assert apart(paint(stream, OTHER, **values, **unit()), by_input) > 0.05
    still = {**values, **unit(source="still")}
    assert np.array_equal(paint(stream, FRAME, **still), by_input)
    assert np.array_equal(paint(stream, OTHER, **still), by_input), "the input as it was"
    paint(stream, OTHER, **values, **unit(source="input"))
    by_other = paint(stream, OTHER, **still)
    assert np.array_equal(by_other, paint(stream, OTHER, **values, **unit()))
    stream.reset()
    assert np.array_equal(paint(stream, FRAME, **still), by_input)


def test_a_unit_sees_its_own_stream_once_there_is_one(make):
    stream = make()
    values = {"mode": "txt2img"}
    own = unit(source="stream")
    assert np.array_equal(paint(stream, FRAME, **values, **own), paint(stream, FRAME, **values))
    assert "own stream" in str(stream.notes()["control.error"]) or not stream.knobs.mode.units
    buffer = OTHER.copy()
    stream.show(1, buffer)
    buffer[:] = 0
    assert np.array_equal(paint(stream, FRAME, **values, **own), paint(stream, OTHER, **values, **unit()))
    stream.show(1, FRAME[:40, :50])
    assert stream.notes()["control.error"] == ""
    first = paint(stream, FRAME, **values, **own)
    assert np.array_equal(paint(stream, OTHER, **values, **own), first)
    for resize in ("crop", "letterbox", "stretch"):
        assert (apart(paint(stream, FRAME, **values, **unit(source="stream", resize=resize)), first) > 0) == (
            resize != "crop"
        ), "the input's own fit is crop"


def test_the_previous_input_is_the_one_before(make):
    stream = make()
    values = {"mode": "txt2img"}
    near = FRAME // 2 + 50
    source = unit(source="previous_input")
    assert np.array_equal(paint(stream, FRAME, **values, **source), paint(make(), FRAME, **values, **unit()))
    assert np.array_equal(paint(stream, near, **values, **source), paint(make(), FRAME, **values, **unit()))


def test_thresholds_and_preprocessors_change_the_hint(make):
    stream = make()
    seen = [
        paint(stream, **unit(preprocessor=name, low=4.0 if name == "tile" else -1.0)).tobytes()
        for name in PREPROCESSORS
    ]
    assert len(set(seen)) == len(seen)
    own = PREPROCESSORS["threshold"].low.default
    dark = paint(stream, **unit(preprocessor="threshold"))
    assert np.array_equal(paint(stream, **unit(preprocessor="threshold", low=own)), dark)
    assert apart(paint(stream, **unit(preprocessor="threshold", low=30.0)), dark) > 0
    mode = stream.knobs.mode
    paint(stream, **unit(preprocessor="threshold", low=60.0, weight=0.3, mode="prompt"))
    assert stream.knobs.mode == mode, "numbers make no other sequence of operations"


def test_pixel_perfect_is_the_painted_size_and_else_the_resolution(make):
    stream = make(size=(64, 128))
    frame = RNG.integers(0, 256, (256, 512, 3), np.uint8)
    perfect = paint(stream, frame, **unit(preprocessor="canny"))
    assert np.array_equal(paint(stream, frame, **unit(preprocessor="canny", resolution=256)), perfect)
    values = unit(preprocessor="canny", pixel_perfect=False, resolution=256)
    assert apart(paint(stream, frame, **values), perfect) > 0
    assert stream.knobs.mode.units[0].size == (256, 512)
    same = unit(preprocessor="canny", pixel_perfect=False, resolution=64)
    assert np.array_equal(paint(stream, frame, **same), perfect)


def test_the_mask_is_the_alpha_of_what_is_looked_at(make):
    stream = make()

    def matte(level):
        return np.dstack([FRAME, np.full((SIDE, SIDE), level, np.uint8)])

    plain, on = paint(stream), paint(stream, **unit())
    for mask, level, expected in (
        ("alpha", 255, on),
        ("alpha", 0, plain),
        ("inverted", 0, on),
        ("inverted", 255, plain),
    ):
        assert apart(paint(stream, matte(level), **unit(mask=mask)), expected) < 0.01, (mask, level)
    assert np.array_equal(paint(stream, FRAME, **unit(mask="alpha")), on), "no alpha: everywhere"
    half = matte(255)
    half[:, : SIDE // 2, 3] = 0
    some = paint(stream, half, **unit(mask="alpha"))
    assert min(apart(some, on), apart(some, plain)) > 0.02
    stream.show(1, matte(0))
    assert apart(paint(stream, matte(255), **unit(source="stream", mask="alpha")), plain) < 0.01


def test_temporalnet_sees_what_came_out_last(make):
    stream, other = make(), make()
    temporal = unit(source="previous_output", follow=False)
    first = paint(stream, **temporal)
    assert np.array_equal(first, paint(other, **unit())), "the first frame has no past but the input"
    second = paint(stream, **temporal)
    other.show(1, first)
    expected = paint(other, **unit(source="stream"))
    assert apart(second, expected) < 0.05, "the picture that came out, but for its rounding to bytes"
    assert apart(second, first) > 0.05


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("what", ["cut", "size", "nan", "bypass", "reset"])
def test_what_breaks_the_past_gives_the_picture_of_a_first_frame(what, follow, make):
    stream = make()
    temporal = unit(source="previous_output", follow=follow)
    for _ in range(3):
        paint(stream, **temporal)
    frame = OTHER if what == "cut" else np.dstack([FRAME, FRAME[..., :1]]) if what == "size" else FRAME
    if what == "nan":
        stream.state.unbroken.fill_(False)
    if what == "bypass":
        paint(stream, bypass=True, **temporal)
    if what == "reset":
        stream.reset()
    # which is shown its own input, or nothing at all: there is no past to move along
    first = {} if follow else unit()
    assert np.array_equal(paint(stream, frame, **temporal), paint(make(), frame, **first))


def test_the_last_picture_is_moved_as_the_input_moved_and_acts_where_it_is_known(make):
    stream, other = make(), make()
    temporal = unit(source="previous_output")
    first, moved = paint(stream, WAVES, **temporal), np.roll(WAVES, 4, axis=1)
    followed = paint(stream, moved, **temporal)
    gaps = []
    for hint in (np.roll(first, 4, axis=1), first, moved):
        other.show(1, hint)
        gaps.append(apart(paint(other, moved, **unit(source="stream")), followed))
    plain = paint(other, moved)
    assert gaps[0] < 0.5 * min(*gaps[1:], apart(followed, plain)), gaps
    noise = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    assert np.array_equal(paint(stream, noise, **temporal, cut_sensitivity=0.0), paint(other, noise)), (
        "nothing in it was there before"
    )


def test_without_follow_nothing_is_moved_and_no_motion_is_looked_for(make):
    stream, other = make(), make()
    still = unit(source="previous_output", follow=False)
    first, moved = paint(stream, WAVES, **still), np.roll(WAVES, 4, axis=1)
    other.show(1, first)
    assert apart(paint(stream, moved, **still), paint(other, moved, **unit(source="stream"))) < 0.05
    assert not stream.knobs.mode.follows
    for idle in (unit(), unit(source="previous_input"), {**unit(source="previous_output"), "mode": "txt2img"}):
        paint(stream, moved, **idle)
        assert not stream.knobs.mode.follows, idle
    paint(stream, moved, **unit(source="previous_output"))
    assert stream.knobs.mode.follows


def test_a_small_move_is_no_cut(make):
    stream = make()
    temporal = unit(source="previous_output", follow=False)
    paint(stream, **temporal)
    moved = np.roll(FRAME, 3, axis=1)
    assert apart(paint(stream, moved, **temporal), paint(make(), moved, **unit())) > 0.05


def test_units_of_params_are_the_table(make):
    values = {f"control{n}_weight": n / 4 for n in range(1, UNITS + 1)}
    units = Params(**values, control2_on=True).units()
    assert [u.weight for u in units] == [0.25, 0.5, 0.75, 1.0]
    assert units[1] == Unit(on=True, weight=0.5)
    assert Params(**values, control2_on=True, seed=7).units() is units


# Loading beside the stream


def test_a_model_is_loaded_beside_the_stream_and_the_one_before_acts_until_it_is_there(make, monkeypatch):
    stream = make()
    plain, by_a, by_b = paint(stream), paint(stream, **unit(model="a")), paint(stream, **unit(model="b"))
    paint(stream)
    paint(stream)
    assert not stream.nets.controlnets, "what nobody names is let go of"
    gate = threading.Event()
    load = stream.unitnets.shelf._load

    def slow(name: str):
        assert gate.wait(60)
        return load(name)

    monkeypatch.setattr(stream.unitnets.shelf, "_load", slow)
    assert np.array_equal(stream(FRAME, Params(**unit(model="a"))), plain)
    assert stream.notes()["control.state"] == "1 loading a"
    gate.set()
    assert stream.unitnets.shelf.settle(60)
    assert np.array_equal(stream(FRAME, Params(**unit(model="a"))), by_a)
    gate.clear()
    assert np.array_equal(stream(FRAME, Params(**unit(model="b"))), by_a)
    assert stream.notes()["control.state"] == "1 a, 1 loading b"
    gate.set()
    assert stream.unitnets.shelf.settle(60)
    assert np.array_equal(stream(FRAME, Params(**unit(model="b"))), by_b)
    assert stream.notes()["control.state"] == "1 b"


def test_what_can_not_be_loaded_is_a_sentence_and_the_stream_goes_on(make, model_folder, nets, tmp_path):
    stream = make()
    (tmp_path / "junk").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk" / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    wide = write_controlnet(tmp_path / "five", model_folder("sd15"), channels=5)
    wrong = {"junk": tmp_path / "junk", "empty": tmp_path / "empty", "gone": tmp_path / "gone", "five": wide}
    register({**nets("sd15"), **wrong, "wide": nets("sdxl")["a"], "unet": model_folder("sd15") / "unet"})
    by_a = paint(stream, **unit())
    for name, word in {
        "junk": "weights", "empty": "not where it was", "gone": "not where it was", "wide": "another family",
        "five": "5 channels", "unet": "UNet2DConditionModel",
    }.items():  # fmt: skip
        picture = paint(stream, **unit(model=name))
        assert np.array_equal(picture, by_a), "the one before stays"
        assert word in str(stream.notes()["control.error"]), stream.notes()["control.error"]
        assert "\n" not in str(stream.notes()["control.error"])
    assert np.array_equal(paint(stream, **unit(model="a")), by_a)
    assert stream.notes()["control.error"] == ""


def test_one_that_was_mended_is_tried_again_when_it_is_named_again(make, model_folder, nets, tmp_path):
    stream = make()
    register({"late": tmp_path / "late"})
    plain = paint(stream, **unit(model="late"))
    write_controlnet(tmp_path / "late", model_folder("sd15"))
    assert np.array_equal(paint(stream, **unit(model="late")), plain)
    paint(stream)
    assert apart(paint(stream, **unit(model="late")), plain) > 0.05


def test_pocket_takes_the_kind_of_controlnet_that_it_was_taught_with(tmp_path):
    """No words in it, another middle block, and a denoiser that embeds the prompt in its own way."""
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from pipelines.pocket.nets import control

    folder = Registry.open().get("pocket").folder()
    net = control(UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for part in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(part.weight, std=0.5 / part.weight[0].numel() ** 0.5)
    net.save_pretrained(tmp_path / "a")
    register({"a": tmp_path / "a"})
    stream = DiffusionStream(
        EagerEngine().load(folder, Build(SIDE, SIDE, device="cpu", dtype="fp32")), (SIDE, SIDE), Params()
    )
    try:
        plain = paint(stream)
        assert apart(paint(stream, **unit()), plain) > 0.2
        assert stream.notes()["control.error"] == ""
        assert np.array_equal(paint(stream, **unit(weight=0.0)), plain)
    finally:
        stream.close()
