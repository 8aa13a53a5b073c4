"""Pictures as prompts: what each row does to the picture, on small adapters and encoders with random weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.base import Build, DTypeName
from engines.eager import EagerEngine
from engines.registry import Registry
from pipelines.img2img import step
from pipelines.params import Params
from pipelines.spec import IMAGE, Moment
from pipelines.stream import DiffusionStream
from tests.support.imageprompts import EMBEDDING, register, write_adapter, write_encoder
from tests.support.imageprompts import SIDE as SEEN
from tests.support.tape import Tape

SIDE = 64
RNG = np.random.default_rng(3)
FRAME = np.kron(RNG.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
OTHER = np.ascontiguousarray(255 - FRAME[::-1])
Parts = dict[str, tuple[Path, Path]]
Make = Callable[..., DiffusionStream]


@pytest.fixture(scope="module")
def parts(model_folder, tmp_path_factory) -> Callable[[str], Parts]:
    """Both adapters for the model of a kind, each with its encoder."""
    made: dict[str, Parts] = {}

    def get(kind: str = "sd15") -> Parts:
        if kind not in made:
            root = tmp_path_factory.mktemp(f"adapters-{kind}")
            encoder = write_encoder(root / "encoder")
            made[kind] = {
                form: (write_adapter(root / f"{form}.safetensors", model_folder(kind), form, seed), encoder)
                for seed, form in enumerate(("plain", "plus"))
            }
        return made[kind]

    return get


@pytest.fixture
def make(model_folder, parts) -> Iterator[Make]:
    made: list[DiffusionStream] = []

    def new(kind: str = "sd15", dtype: DTypeName = "fp32") -> DiffusionStream:
        register(parts(kind))
        loaded = EagerEngine().load(model_folder(kind), Build(SIDE, SIDE, device="cpu", dtype=dtype))
        made.append(DiffusionStream(loaded, (SIDE, SIDE), Params(), clock=lambda: 0.0))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


def ip(**values) -> dict[str, object]:
    return {
        f"ip_{name}": value
        for name, value in {"on": True, "model": "plain", "scale": 1.0, "fade": 0.0, **values}.items()
    }


def paint(stream: DiffusionStream, frame=FRAME, seconds: float = 0.0, **values):
    """One frame after the picture that it asks to have read has been read."""
    params, moment = Params(prompt_fade=0.0, **values), Moment(seconds, 0)
    stream.tune(params, moment)
    stream(frame, params, moment)
    assert stream.image.looker.settle(60)
    return stream(frame, params, moment).copy()


def apart(a, b) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "lcm"])
def test_off_or_scale_0_is_the_picture_without_bit_by_bit_and_costs_nothing(kind, make, monkeypatch):
    stream = make(kind)
    plain = paint(stream, steps=2)
    acting = paint(stream, steps=2, **ip())
    assert apart(acting, plain) > 0.3
    still = {"source": "still"}
    assert np.array_equal(paint(stream, steps=2, **ip(**still)), acting)
    for idle in ({"scale": 0.0, **still}, {"on": False, **still}, {"scale": 0.0}, {"on": False}, {"model": "none"}):
        assert np.array_equal(paint(stream, steps=2, **ip(**idle)), plain), idle
        assert stream.knobs.mode.image is None, "nothing of it is in the sequence of operations"
    jobs = counted(stream, monkeypatch)
    paint(stream, OTHER, 9.0, **ip(scale=0.0))
    paint(stream, OTHER, 99.0, **ip(on=False))
    assert jobs == [], "nor is a picture read"
    assert np.array_equal(paint(stream, steps=2, **ip()), acting)


def counted(stream: DiffusionStream, monkeypatch) -> list[object]:
    """Every picture that is encoded from now on."""
    jobs: list[object] = []
    encode = stream.image.looker.work

    def counting(job):
        jobs.append(job)
        return encode(job)

    monkeypatch.setattr(stream.image.looker, "work", counting)
    return jobs


def test_scale_moves_live_between_frames_and_nothing_is_built_or_read_anew(make, monkeypatch):
    stream = make()
    plain = paint(stream)
    paint(stream, **ip(source="still"))
    mode, jobs, held = stream.knobs.mode, counted(stream, monkeypatch), stream.knobs.image._rows.data_ptr()
    changes = []
    for number, scale in enumerate((0.02, 0.3, 0.8, 1.5)):
        params = Params(prompt_fade=0.0, **ip(source="still", scale=scale))
        changes.append(apart(stream(FRAME, params, Moment(0.0, number)).copy(), plain))
        assert stream.knobs.mode == mode
    assert changes == sorted(changes)
    assert 0 < changes[0] < changes[-1] / 10
    assert jobs == []
    assert stream.knobs.image._rows.data_ptr() == held


@pytest.mark.parametrize("form", ["plain", "plus"])
def test_a_captured_frame_follows_scale_and_picture(form, make):
    """A graph holds addresses: a scale that Python read, or tokens in a new place, would stay as they were."""
    stream = make()
    values = {"guidance_mode": "full", "guidance": 3.0, **ip(model=form, source="still")}
    paint(stream, **values)
    pixels = torch.from_numpy(FRAME.copy())
    tape = Tape()
    with tape:
        captured = step(pixels, stream.knobs.recorded(), stream.state, stream.nets)
    first = captured.clone()
    stream.knobs.turn(Params(**{**values, "ip_scale": 0.3}), pixels.shape)
    tape.play()
    weaker = captured.clone()
    assert torch.equal(step(pixels, stream.knobs, stream.state, stream.nets), weaker)
    assert not torch.equal(weaker, first)
    name, adapter = stream.image._using
    with torch.inference_mode():
        rows = adapter(torch.from_numpy(OTHER).permute(2, 0, 1)[None] / 255.0)
    stream.knobs.image.take(name, adapter, rows)
    tape.play()
    assert not torch.equal(captured, weaker)
    assert torch.equal(captured.clone(), step(pixels, stream.knobs, stream.state, stream.nets))


def test_the_source_decides_what_is_read(make):
    stream = make()
    txt = {"mode": "txt2img"}
    by_frame = paint(stream, **txt, **ip())
    by_other = paint(stream, OTHER, 10.0, **txt, **ip())
    assert apart(by_other, by_frame) > 0.3
    still = {**txt, **ip(source="still")}
    assert np.array_equal(paint(stream, FRAME, 20.0, **still), by_frame)
    assert np.array_equal(paint(stream, OTHER, 30.0, **still), by_frame), "the input as it was"
    stream.show(IMAGE, OTHER)
    own = {**txt, **ip(source="stream")}
    assert np.array_equal(paint(stream, FRAME, 40.0, **own), by_other)
    gray = FRAME[..., :1]
    stream.show(IMAGE, gray)
    by_gray = paint(stream, FRAME, 50.0, **own)
    assert np.array_equal(by_gray, paint(stream, np.repeat(gray, 3, 2), 60.0, **txt, **ip()))
    alpha = np.dstack([OTHER, FRAME[..., 0]])
    assert np.array_equal(paint(stream, alpha, 70.0, **txt, **ip()), by_other), "alpha is dropped"
    before = paint(stream, FRAME, 80.0, **txt, **ip())
    last = {**txt, **ip(source="previous_output")}
    after = paint(stream, FRAME, 90.0, **last)
    stream.show(IMAGE, before)
    assert apart(after, paint(stream, FRAME, 100.0, **own)) < 0.2, "the picture that came out, but for its rounding"


def test_another_picture_fades_in_over_its_time_and_an_adapter_does_not(make):
    stream = make()
    quick = {"mode": "txt2img", **ip(source="stream", scale=1.5)}
    stream.show(IMAGE, FRAME)
    old = paint(stream, **quick)
    stream.show(IMAGE, OTHER)
    new = paint(stream, seconds=5.0, **quick)
    slow = {**quick, "ip_fade": 4.0}

    def at(seconds: float, **values):
        return stream(FRAME, Params(prompt_fade=0.0, **slow, **values), Moment(seconds, 0)).copy()

    stream.show(IMAGE, FRAME)
    assert np.array_equal(paint(stream, seconds=10.0, **slow), new), "it begins with what was there"
    rows = stream.knobs.image._rows
    walk = [at(seconds) for seconds in (11.0, 12.0, 13.0)]
    eased = at(11.0, prompt_curve="ease")
    away = [apart(picture, new) for picture in walk]
    assert 0 < apart(eased, new) < away[0] < away[1] < away[2] < apart(old, new)
    assert np.array_equal(at(14.0), old)
    assert np.array_equal(at(9.0), old), "it has arrived"
    assert stream.knobs.image._rows is rows, "in the buffers that a graph holds"
    assert not np.array_equal(paint(stream, seconds=20.0, **{**slow, "ip_model": "plus"}), old), "other rows: a cut"


def test_what_moves_is_read_at_its_rate_and_a_still_once(make, monkeypatch):
    stream = make()
    paint(stream, **ip())
    jobs = counted(stream, monkeypatch)

    def run(rate: float, start: float, **values) -> int:
        """A second at ten frames a second; how many pictures were read."""
        jobs.clear()
        for number in range(10):
            params = Params(prompt_fade=0.0, **ip(rate=rate, **values))
            stream(FRAME, params, Moment(start + number / 10, number))
            assert stream.image.looker.settle(60)
        return len(jobs)

    assert run(2.0, 100.0) == 2
    assert run(5.0, 200.0) == 5
    assert run(30.0, 300.0) == 10, "not more often than there are frames"
    assert run(0.0, 400.0) == 0, "what was read last holds"
    assert run(0.0, 500.0, source="still") == 1
    assert run(30.0, 600.0, source="still") == 0
    stream.show(IMAGE, OTHER)
    assert run(30.0, 700.0, source="stream") == 1, "no new picture, nothing to read"


def test_no_frame_waits_for_a_picture_and_the_one_before_acts_until_then(make, monkeypatch):
    stream = make()
    plain, by_frame, by_other = paint(stream), paint(stream, **ip()), paint(stream, OTHER, 5.0, **ip(), mode="txt2img")
    gate, adapter = threading.Event(), stream.image._using[1]
    encode = stream.image.looker.work

    def slow(job):
        assert gate.wait(60)
        return encode(job)

    monkeypatch.setattr(stream.image.looker, "work", slow)
    stream.reset()
    params = Params(prompt_fade=0.0, **ip())
    for number in range(3):
        assert np.array_equal(stream(FRAME, params, Moment(10.0, number)), plain)
    assert stream.notes()["ip.state"] == "encoding the picture"
    gate.set()
    assert stream.image.looker.settle(60)
    assert np.array_equal(stream(FRAME, params, Moment(10.5, 4)), by_frame)
    notes = stream.notes()
    assert (notes["ip.state"], notes["ip.error"]) == ("plain, input", "")
    assert notes["ip.age"] == pytest.approx(500.0), "since the picture was taken"
    gate.clear()
    held = Params(prompt_fade=0.0, **ip(), mode="txt2img")
    stream(FRAME, held, Moment(11.0, 5))
    before = stream(OTHER, held, Moment(20.0, 6)).copy()
    assert apart(before, by_other) > 0.3, "still by the old picture"
    gate.set()
    assert stream.image.looker.settle(60)
    stream(OTHER, held, Moment(30.0, 7))
    assert stream.image.looker.settle(60)
    assert np.array_equal(stream(OTHER, held, Moment(30.1, 8)), by_other)
    assert stream.image._using[1] is adapter, "it was loaded once"


def test_a_picture_read_before_a_reset_never_comes_up_after_it(make, monkeypatch):
    stream = make()
    plain = paint(stream)
    paint(stream, **ip(source="still"))
    gate = threading.Event()
    encode = stream.image.looker.work
    monkeypatch.setattr(stream.image.looker, "work", lambda job: (gate.wait(60), encode(job))[1])
    stream.reset()
    params = Params(prompt_fade=0.0, **ip())
    stream(OTHER, params, Moment(0.0, 0))
    stream.reset()
    gate.set()
    assert stream.image.looker.settle(60)
    assert np.array_equal(stream(FRAME, params, Moment(1.0, 1)), plain)


def test_another_adapter_is_loaded_beside_the_stream_and_the_one_before_acts_until_it_is_there(make, monkeypatch):
    stream = make()
    by_plain, by_plus = paint(stream, **ip()), paint(make(), **ip(model="plus"))
    assert apart(by_plain, by_plus) > 0.3
    gate, load = threading.Event(), stream.image.shelf._load

    def slow(name: str):
        assert gate.wait(60)
        return load(name)

    monkeypatch.setattr(stream.image.shelf, "_load", slow)
    params = Params(prompt_fade=0.0, **ip(model="plus"))
    assert np.array_equal(stream(FRAME, params, Moment(0.1, 0)), by_plain)
    assert stream.notes()["ip.state"] == "plain, input, loading plus"
    gate.set()
    assert stream.image.shelf.settle(60)
    assert np.array_equal(paint(stream, FRAME, 0.2, **ip(model="plus")), by_plus)
    assert stream.notes()["ip.state"] == "plus, input"


@pytest.mark.parametrize("guidance", ["full", "self", "onetime"])
def test_every_guidance_takes_it(guidance, make):
    stream = make("sd21")
    values = {"guidance_mode": guidance, "guidance": 3.0, "steps": 2}
    assert apart(paint(stream, **values, **ip()), paint(stream, **values)) > 0.3
    assert stream.notes()["guard.held"] == 0


@pytest.mark.parametrize("form", ["plain", "plus"])
def test_half_precision_paints_the_same_picture_but_for_rounding(form, make):
    values = {"mode": "txt2img", **ip(model=form, scale=0.8)}
    exact, half, without = paint(make(), **values), paint(make(dtype="bf16"), **values), paint(make(), mode="txt2img")
    assert 3 * apart(half, exact) < apart(without, exact)


def test_a_prompt_fades_under_it(make):
    """Half way through a fade the text is half way, and the picture counts as before."""
    stream = make()
    ends = [paint(stream, prompt=prompt, mode="txt2img", **ip(source="still")) for prompt in ("neon", "gold")]
    assert apart(*ends) > 0.05
    params = Params(prompt="neon", prompt_fade=2.0, mode="txt2img", **ip(source="still"))
    stream(FRAME, params, Moment(1.0, 1))
    half = stream(FRAME, params, Moment(2.0, 2)).copy()
    assert stream.notes()["prompt.fade"] == pytest.approx(0.5)
    assert max(apart(half, end) for end in ends) < apart(*ends)
    assert np.array_equal(stream(FRAME, params, Moment(3.5, 3)), ends[0])


def test_style_is_part_of_all_and_a_block_that_is_not_there_is_said(make):
    """InstantStyle's two blocks are SDXL's; the small networks have the one for style."""
    stream = make("sdxl")
    plain, whole, style = paint(stream), paint(stream, **ip()), paint(stream, **ip(block="style"))
    assert stream.notes()["ip.error"] == ""
    assert apart(style, plain) > 0.1
    assert apart(style, whole) > 0.1
    acts = stream.image._using[1].blocks("style")
    paths = [layer.path for layer in stream.image._using[1]._layers]
    assert [path for path, act in zip(paths, acts, strict=True) if act] == [
        path for path in paths if path.startswith("up_blocks.0.attentions.1.")
    ]
    assert any(acts)
    assert np.array_equal(paint(stream, **ip(block="layout")), whole)
    assert "no layout block" in str(stream.notes()["ip.error"])


def test_a_frame_that_may_rest_is_painted_once_a_picture_has_been_read(make):
    stream = make()
    values = {"similarity_threshold": 5.0, "similarity_max_skip": 1000, "prompt_fade": 0.0}
    plain = paint(stream)
    stream.tune(Params(**values, **ip()))
    stream(FRAME, Params(**values, **ip()))
    assert stream.image.looker.settle(60)
    assert apart(stream(FRAME, Params(**values, **ip())), plain) > 0.3
    count = stream.notes()["coherence.skipped"]
    stream(FRAME, Params(**values, **ip()))
    assert stream.notes()["coherence.skipped"] == count + 1


def test_what_can_not_be_used_is_a_sentence_and_the_stream_goes_on(make, model_folder, parts, tmp_path):
    stream = make()
    file, encoder = parts("sd15")["plain"]
    spoilt = {**load_file(file), "image_proj.proj.bias": torch.full((4 * 32,), float("nan"))}
    save_file(spoilt, tmp_path / "nan.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-100])
    (tmp_path / "pickle.safetensors").write_bytes(b"PK\x03\x04" + b"\0" * 64)
    (tmp_path / "empty").mkdir()
    other = write_encoder(tmp_path / "other", embedding=EMBEDDING + 8)
    wrong = {
        "wide": (parts("sdxl")["plain"][0], encoder),
        "cut": (tmp_path / "cut.safetensors", encoder),
        "pickle": (tmp_path / "pickle.safetensors", encoder),
        "nan": (tmp_path / "nan.safetensors", encoder),
        "gone": (tmp_path / "gone.safetensors", encoder),
        "blind": (file, tmp_path / "empty"),
        "lost": (file, tmp_path / "lost"),
        "mixed": (file, other),
    }
    register({**parts("sd15"), **wrong})
    by_plain = paint(stream, **ip())
    words = {
        "wide": "another family of models: its tokens have 64 numbers, this model's 32", "cut": "cut short",
        "pickle": "pickle", "nan": "not finite", "gone": "not where it was", "blind": "encoder", "lost": "encoder",
        "mixed": "gives 32 numbers and it takes 24", "nobody": "no IP-Adapter 'nobody'",
    }  # fmt: skip
    for name, word in words.items():
        assert np.array_equal(paint(stream, **ip(model=name)), by_plain), "the one before stays"
        said = str(stream.notes()["ip.error"])
        assert word in said, said
        assert "\n" not in said
    assert np.array_equal(paint(stream, **ip(model="none")), paint(stream))
    paint(stream, **ip(model="none"))
    assert stream.notes()["ip.error"] == "ip is on and ip/model names no adapter"
    paint(make(), **ip(source="stream"))


def test_a_stream_that_sends_nothing_and_an_encoder_that_fails_are_said(make, monkeypatch):
    stream = make()
    plain = paint(stream)
    assert np.array_equal(paint(stream, **ip(source="stream")), plain)
    assert stream.notes()["ip.error"] == "nothing has come from its own stream yet"
    monkeypatch.setattr(stream.image._using[1]._encoder, "prepare", lambda image: 1 / 0)
    assert np.array_equal(paint(stream, **ip()), plain)
    assert stream.notes()["ip.error"] == "the picture can't be encoded: division by zero"
    monkeypatch.undo()
    assert apart(paint(stream, FRAME, 10.0, **ip()), plain) > 0.3
    assert stream.notes()["ip.error"] == ""


def test_pocket_has_no_image_adapter_and_says_so(make):
    stream = make()
    stream.pictures.model = Registry.open().get("pocket")
    plain = paint(stream)
    assert np.array_equal(paint(stream, **ip(model="ip-sd15")), plain)
    assert stream.notes()["ip.error"] == "ip-sd15: it was made for sd15 models, and pocket has no image adapter"
    stream.pictures.model = Registry.open().get("sdxl-turbo")
    paint(stream)
    paint(stream, **ip(model="ip-plus-sd15"))
    assert stream.notes()["ip.error"] == "ip-plus-sd15: it was made for sd15 models"


@pytest.mark.parametrize("size", [(SEEN, SEEN), (100, 64), (64, 100), (33, 47), (20, 300)])
def test_the_encoder_sees_the_middle_as_clip_does(size, make):
    """Shorter side to its size, bicubic, then the middle: Pillow's own resizing is within two levels of 255."""
    from PIL import Image

    stream = make()
    paint(stream, **ip())
    smooth = np.kron(RNG.integers(0, 256, (3, 3, 3), np.uint8), np.ones((120, 120, 1), np.uint8))
    frame = np.ascontiguousarray(smooth[: size[0], : size[1]])
    encoder = stream.image._using[1]._encoder
    seen = encoder.prepare(torch.from_numpy(frame).permute(2, 0, 1)[None] / 255.0)
    seen = (seen * encoder._spread + encoder._mean)[0].permute(1, 2, 0).numpy() * 255
    short = min(size)
    width, height = int(SEEN * size[1] / short), int(SEEN * size[0] / short)
    resized = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    top, left = (height - SEEN) // 2, (width - SEEN) // 2
    expected = resized[top : top + SEEN, left : left + SEEN]
    assert seen.shape == expected.shape == (SEEN, SEEN, 3)
    assert np.abs(seen - expected).max() <= 2.0
