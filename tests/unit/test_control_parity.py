"""One and two ControlNets give diffusers' own pictures: the same small random networks, seeds, and sampler steps."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support.controlnets import register, write_controlnet

SIDE = 64
CLOSE = 1e-3
"""Of 0..1, for every pixel of every channel."""
RNG = np.random.default_rng(5)
FRAME, EDGES = (RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(2))
CASES = {
    "turbo": ("EulerDiscreteScheduler", "euler_discrete", {"timestep_spacing": "trailing"}, {}),
    "ddim": ("DDIMScheduler", "ddim", {"timestep_spacing": "trailing", "clip_sample": False}, {"eta": 0.0}),
    "lcm": ("LCMScheduler", "lcm", {"clip_sample": False}, {}),
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folders(model_folder, tmp_path_factory) -> Callable[[str], dict[str, Path]]:
    made: dict[str, dict[str, Path]] = {}

    def get(kind: str) -> dict[str, Path]:
        if kind not in made:
            root = tmp_path_factory.mktemp(f"parity-{kind}")
            made[kind] = {
                name: write_controlnet(root / name, model_folder(kind), seed) for seed, name in enumerate("ab", 3)
            }
        return made[kind]

    return get


def pipeline(model: Path, nets: list[Path], kind: str, sampler: str) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    name = "stable_diffusion_xl" if kind == "sdxl" else "stable_diffusion"
    suffix = "sd_xl_img2img" if kind == "sdxl" else "img2img"
    module = importlib.import_module(f"diffusers.pipelines.controlnet.pipeline_controlnet_{suffix}")
    cls = getattr(module, f"StableDiffusion{'XL' if 'xl' in name else ''}ControlNetImg2ImgPipeline")
    extra = {"add_watermarker": False} if kind == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
    loaded = [ControlNetModel.from_pretrained(net, local_files_only=True) for net in nets]
    pipe = cls.from_pretrained(model, controlnet=loaded, local_files_only=True, **extra)
    class_name, file, options, _ = CASES[sampler]
    scheduler = getattr(importlib.import_module(f"diffusers.schedulers.scheduling_{file}"), class_name)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def as_input(frame: np.ndarray) -> torch.Tensor:
    """uint8 (h, w, 3) to [1, 3, h, w] in 0..1."""
    return torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255


def theirs(pipe: Any, hints: list[torch.Tensor], sampler: str, **arguments: Any) -> np.ndarray:
    out = pipe(
        image=as_input(FRAME),
        control_image=hints,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
        **CASES[sampler][3],
        **arguments,
    )
    return out.images[0]


def ours(stream: DiffusionStream, **values: Any) -> np.ndarray:
    """What was painted, before it became bytes: 0..1."""
    params = Params(**values)
    stream.tune(params)
    stream(FRAME, params)
    return (stream.state.picture[0].permute(1, 2, 0).numpy() + 1) / 2


@pytest.fixture
def stream(shared_nets, folders):
    made: list[DiffusionStream] = []

    def make(kind: str) -> DiffusionStream:
        register(folders(kind))
        made.append(DiffusionStream(shared_nets(kind), (SIDE, SIDE), Params()))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("sampler", list(CASES))
@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
def test_pictures_are_diffusers_own(kind, sampler, stream, model_folder, folders):
    """One network whose hint is the input, then two of different weights, the second shown another picture."""
    nets, mine = folders(kind), stream(kind)
    mine.show(2, EDGES)
    shared = {"prompt": "neon gold", "steps": 2, "strength": 1.0, "sampler": sampler, "seed": 3, "eta": 0.0}
    first = {"control1_on": True, "control1_model": "a", "control1_weight": 0.7}
    second = {"control2_on": True, "control2_model": "b", "control2_weight": 1.2, "control2_source": "stream"}
    common = {"prompt": "neon gold", "num_inference_steps": 2, "strength": 1.0, "guidance_scale": 1.0}
    one = theirs(
        pipeline(model_folder(kind), [nets["a"]], kind, sampler), [as_input(FRAME)], sampler,
        controlnet_conditioning_scale=[0.7], **common,
    )  # fmt: skip
    two = theirs(
        pipeline(model_folder(kind), [nets["a"], nets["b"]], kind, sampler), [as_input(FRAME), as_input(EDGES)],
        sampler, controlnet_conditioning_scale=[0.7, 1.2], **common,
    )  # fmt: skip
    assert np.abs(ours(mine, **shared, **first) - one).max() <= CLOSE
    assert np.abs(ours(mine, **shared, **first, **second) - two).max() <= CLOSE
    assert np.abs(one - two).max() > 20 * CLOSE, "the second one matters"
    assert np.abs(ours(mine, **shared) - one).max() > 20 * CLOSE, "so does the first"


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_with_guidance_and_half_the_strength_too(kind, stream, model_folder, folders):
    """Their strength 0.5 of two steps is one step from timestep 499."""
    mine = stream(kind)
    expected = theirs(
        pipeline(model_folder(kind), [folders(kind)["a"]], kind, "turbo"), [as_input(FRAME)], "turbo",
        prompt="neon", negative_prompt="ink", num_inference_steps=2, strength=0.5, guidance_scale=3.0,
        controlnet_conditioning_scale=[1.0],
    )  # fmt: skip
    painted = ours(
        mine, prompt="neon", negative="ink", guidance=3.0, guidance_mode="full", strength=499 / 999, sampler="turbo",
        seed=3, control1_on=True, control1_model="a",
    )  # fmt: skip
    assert np.abs(painted - expected).max() <= CLOSE


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_temporalnet_is_a_controlnet_that_is_shown_the_last_picture(kind, stream, model_folder, folders):
    """Three frames of ours against three calls of theirs, each given the picture before; the first gets the input."""
    mine, pipe = stream(kind), pipeline(model_folder(kind), [folders(kind)["a"]], kind, "turbo")
    last = as_input(FRAME)
    values = {
        "control1_on": True, "control1_model": "a", "control1_source": "previous_output", "control1_follow": False,
    }  # fmt: skip
    pictures = []
    for _ in range(3):
        expected = theirs(
            pipe, [last], "turbo", prompt="neon", num_inference_steps=1, strength=1.0, guidance_scale=1.0,
            controlnet_conditioning_scale=[1.0],
        )  # fmt: skip
        pictures.append(ours(mine, strength=1.0, sampler="turbo", seed=3, **values).copy())
        assert np.abs(pictures[-1] - expected).max() <= CLOSE
        last = torch.from_numpy(expected).permute(2, 0, 1)[None]
    assert np.abs(pictures[1] - pictures[0]).max() > 20 * CLOSE
