"""A plain frame on a processor: bytes in, bytes out, checked on the way, with the pictures that the long way gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from engines.levels import signed
from pipelines import develop
from pipelines.params import Params
from pipelines.prepare import to_bytes
from pipelines.stream import DiffusionStream

SIDE = 64


@pytest.fixture
def stream(model_folder) -> Iterator[DiffusionStream]:
    nets = EagerEngine().load(model_folder("sd15"), Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    made = DiffusionStream(nets, (SIDE, SIDE), Params())
    yield made
    made.close()


def frame(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).integers(0, 256, shape, np.uint8)


def the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(develop, "plain", lambda knobs, nets: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_table_says_what_arithmetic_says(dtype) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    found = signed(levels, dtype)
    assert found.dtype is dtype
    assert torch.equal(found, torch.add(-1.0, levels, alpha=1 / 127.5).to(dtype))


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64, 4), (64, 64, 1), (90, 50, 3), (30, 40, 4), (64, 80, 1)])
@pytest.mark.parametrize("values", [{}, {"mix": 0.4}, {"mode": "txt2img"}, {"fit": "letterbox"}])
def test_its_pictures_are_those_of_the_long_way(shape, values, stream, monkeypatch) -> None:
    params = Params(strength=0.6, **values)
    short = stream(frame(*shape), params).copy()
    assert develop.plain(stream.knobs, stream.nets)
    kept = stream.state.picture.clone()
    the_long_way(monkeypatch)
    assert np.array_equal(stream(frame(*shape), params), short)
    assert torch.equal(stream.state.picture, kept)


@pytest.mark.parametrize("values", [{"feedback": 0.5}, {"smoothing": 0.5}, {"colour_match": "lab"}, {"bypass": True}])
def test_what_looks_at_pictures_is_not_plain(values, stream) -> None:
    stream(frame(SIDE, SIDE, 3), Params(**values))
    assert not develop.plain(stream.knobs, stream.nets)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_held_back(bad, stream, monkeypatch) -> None:
    decode = stream.nets.decode
    broken = False

    def breaking(x: torch.Tensor) -> torch.Tensor:
        image = decode(x)
        if broken:
            image[0, 1, -1, -1] = bad
        return image

    object.__setattr__(stream.nets, "decode", breaking)
    stream.reset()
    broken = True
    first = stream(frame(SIDE, SIDE, 3), Params())
    assert np.array_equal(first, frame(SIDE, SIDE, 3)), "nothing was painted yet: the input"
    broken = False
    good = stream(frame(SIDE, SIDE, 3), Params()).copy()
    broken = True
    assert np.array_equal(stream(frame(40, 30, 3), Params()), good)
    assert int(stream.state.held) == 2
    broken = False
    assert not np.array_equal(stream(frame(40, 30, 3), Params()), good)


def test_a_picture_is_held_to_its_range_and_to_its_bytes() -> None:
    image = torch.linspace(-3.0, 3.0, 3 * 700 * 300).reshape(1, 700, 300, 3).permute(0, 3, 1, 2)
    want = image.clamp(-1.0, 1.0)
    found = develop.finished_here(image.clone(memory_format=torch.preserve_format))
    assert found.good
    assert torch.equal(found.image, want)
    assert torch.equal(found.levels, to_bytes(want))
