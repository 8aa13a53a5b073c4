"""A stream as the worker builds it: from a spec alone, by a model's id."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import torch

from engines import modelfile
from engines.errors import ModelError
from pipelines.bench_step import bench_step
from pipelines.build import build
from pipelines.params import Params
from pipelines.spec import StreamSpec
from pipelines.stream import DiffusionStream

FRAME = np.random.default_rng(0).integers(0, 256, (48, 96, 4), np.uint8)
SPEC = StreamSpec(model="small", width=128, height=64, device="cpu", dtype="fp32", threads=1)


@pytest.fixture
def small(model_folder) -> Iterator[None]:
    """A model `small` in the user's own models.toml, whose sampler is lcm."""
    file = modelfile.user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[models.small]\nfolder = "{model_folder().as_posix()}"\nsampler = "lcm"\n')
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def made() -> Iterator[list[DiffusionStream]]:
    streams: list[DiffusionStream] = []
    yield streams
    for stream in streams:
        stream.close()


@pytest.mark.usefixtures("small")
def test_a_spec_becomes_a_stream_and_the_same_spec_the_same_pictures(made):
    params = Params(prompt="ink", version=3)
    torch.set_num_threads(2)
    made += [build(SPEC, params), build(SPEC, params)]
    pictures = [stream(FRAME, params).copy() for stream in made]
    assert pictures[0].shape == (64, 128, 3)
    assert pictures[0].dtype == np.uint8
    assert np.array_equal(*pictures)
    assert np.array_equal(made[0](FRAME, params), pictures[0])
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("small")
def test_auto_is_the_models_own_sampler(made):
    made.append(build(SPEC, Params()))
    own = made[0](FRAME, Params(steps=3)).copy()
    assert np.array_equal(made[0](FRAME, Params(steps=3, sampler="lcm")), own)
    assert not np.array_equal(made[0](FRAME, Params(steps=3, sampler="turbo")), own)


@pytest.mark.usefixtures("small")
def test_what_can_not_be_built_gets_a_sentence():
    for change in ({"model": "nowhere"}, {"device": "mps" if sys.platform != "darwin" else "cuda"}):
        with pytest.raises(ModelError):
            build(msgspec.structs.replace(SPEC, **change), Params())


@pytest.mark.usefixtures("small")
def test_notes_are_numbers_and_texts(made):
    made.append(build(SPEC, Params()))
    made[0](FRAME, Params())
    notes = made[0].notes()
    assert all(isinstance(value, (float, str)) for value in notes.values())
    assert notes["guard.held"] == 0
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(notes)) == notes


@pytest.mark.usefixtures("small")
def test_the_benchmark_times_the_whole_against_its_parts(made):
    made.append(build(SPEC, Params()))
    for params in (Params(), Params(steps=2, guidance_mode="full"), Params(mode="txt2img")):
        figures = bench_step(made[0], params, frames=3)
        assert figures["frame"] > 0
        assert figures["step"] > 0
        assert figures["networks"] > 0
        assert figures["processor"] > -1.0
