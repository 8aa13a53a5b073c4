"""Pictures as prompts give diffusers' own pictures: the same small random networks, and seeds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from engines import modelfile
from engines.base import Build
from engines.eager import EagerEngine
from pipelines.params import Params
from pipelines.spec import IMAGE
from pipelines.stream import DiffusionStream
from tests.support.controlnets import register as controlnet_tables
from tests.support.controlnets import write_controlnet
from tests.support.imageprompts import SIDE as SEEN
from tests.support.imageprompts import register, write_adapter, write_encoder

SIDE = 64
CLOSE = 1e-4
"""Of 0..1, for every pixel of every channel, in fp32."""
RNG = np.random.default_rng(11)
FRAME = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
PICTURE = RNG.integers(0, 256, (SEEN, SEEN, 3), np.uint8)
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

pytestmark = pytest.mark.filterwarnings("ignore")


class Rig:
    """A model of a kind with both adapters, in our hands and in theirs."""

    def __init__(self, kind: str, model: Path, root: Path) -> None:
        self.kind, self.model = kind, model
        self.encoder = write_encoder(root / "encoder")
        self.adapters = {form: write_adapter(root / f"{form}.safetensors", model, form) for form in ("plain", "plus")}
        self.controlnet = write_controlnet(root / "controlnet", model)
        self._pipes: dict[tuple[str, bool], Any] = {}
        nets = EagerEngine().load(model, Build(SIDE, SIDE, device="cpu", dtype="fp32"))
        self.stream = DiffusionStream(nets, (SIDE, SIDE), Params())

    def register(self) -> None:
        """Every test has a models.toml of its own."""
        controlnet_tables({"edges": self.controlnet})
        tables = modelfile.user_file().read_text()
        register({form: (file, self.encoder) for form, file in self.adapters.items()}, more=tables)

    def ours(self, form: str, **values: Any) -> np.ndarray:
        """What was painted, before it became bytes: 0..1. The prompt's picture comes as a stream of its own."""
        values = {"ip_on": True, "ip_model": form, "ip_source": "stream", "prompt_fade": 0.0, **values}
        params = Params(seed=3, sampler="turbo", **values)
        self.stream.tune(params)
        self.stream.show(IMAGE, PICTURE)
        self.stream(FRAME, params)
        assert self.stream.image.looker.settle(60)
        self.stream(FRAME, params)
        return (self.stream.state.picture[0].permute(1, 2, 0).numpy() + 1) / 2

    def theirs(self, form: str, scale: float, control: bool = False, **arguments: Any) -> np.ndarray:
        if (form, control) not in self._pipes:
            self._pipes[form, control] = self._pipeline(form, control)
        pipe = self._pipes[form, control]
        pipe.set_ip_adapter_scale(scale)
        if control:
            arguments |= {"control_image": as_input(FRAME), "controlnet_conditioning_scale": 0.7}
        out = pipe(
            image=as_input(FRAME), ip_adapter_image=pixels(PICTURE), output_type="np", strength=1.0,
            generator=torch.Generator("cpu").manual_seed(3), **arguments,
        )  # fmt: skip
        return out.images[0]

    def _pipeline(self, form: str, control: bool) -> Any:
        from diffusers.models.controlnets.controlnet import ControlNetModel
        from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

        xl = self.kind == "sdxl"
        folder, suffix = "stable_diffusion_xl" if xl else "stable_diffusion", "sd_xl_img2img" if xl else "img2img"
        path = f"controlnet.pipeline_controlnet_{suffix}" if control else f"{folder}.pipeline_{folder}_img2img"
        cls = f"StableDiffusion{'XL' if xl else ''}{'ControlNet' if control else ''}Img2ImgPipeline"
        extra: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
        if xl:
            extra = {"add_watermarker": False}
        if control:
            extra["controlnet"] = ControlNetModel.from_pretrained(self.controlnet, local_files_only=True)
        pipe = getattr(importlib.import_module(f"diffusers.pipelines.{path}"), cls).from_pretrained(
            self.model,
            image_encoder=CLIPVisionModelWithProjection.from_pretrained(self.encoder, local_files_only=True),
            local_files_only=True,
            **extra,
        )
        pipe.feature_extractor = SimpleNamespace()  # what it would do is done by `pixels`
        file = self.adapters[form]
        pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=None)
        pipe.set_progress_bar_config(disable=True)
        return pipe


def as_input(frame: np.ndarray) -> torch.Tensor:
    """uint8 (h, w, 3) to [1, 3, h, w] in 0..1."""
    return torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255


def pixels(frame: np.ndarray) -> torch.Tensor:
    """As CLIP sees a picture of its own size."""
    return (as_input(frame) - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(SPREAD).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def rigs(model_folder, tmp_path_factory) -> Iterator[Callable[[str], Rig]]:
    made: dict[str, Rig] = {}

    def get(kind: str) -> Rig:
        if kind not in made:
            made[kind] = Rig(kind, model_folder(kind), tmp_path_factory.mktemp(f"ip-{kind}"))
        return made[kind]

    yield get
    for each in made.values():
        each.stream.close()


@pytest.fixture(params=["sd15", "sd21", "sdxl"])
def rig(request, rigs) -> Rig:
    made = rigs(request.param)
    made.register()
    return made


@pytest.mark.parametrize("form", ["plain", "plus"])
def test_pictures_are_diffusers_own(form, rig):
    """At two scales, on one stream, then with guidance, whose negative side sees no picture."""
    plain = rig.ours(form, prompt="neon", strength=1.0, steps=2, ip_on=False)
    asked = {"prompt": "neon", "num_inference_steps": 2, "guidance_scale": 1.0}
    for scale in (0.6, 1.2):
        expected = rig.theirs(form, scale, **asked)
        assert np.abs(rig.ours(form, prompt="neon", strength=1.0, steps=2, ip_scale=scale) - expected).max() <= CLOSE
        assert np.abs(expected - plain).max() > 100 * CLOSE, "the picture matters"
    guided = {**asked, "guidance_scale": 4.0, "negative_prompt": "ink"}
    values = {"prompt": "neon", "negative": "ink", "guidance": 4.0, "guidance_mode": "full"}
    expected = rig.theirs(form, 0.8, **guided)
    assert np.abs(rig.ours(form, **values, strength=1.0, steps=2, ip_scale=0.8) - expected).max() <= CLOSE
    assert np.abs(expected - rig.ours(form, **values, strength=1.0, steps=2, ip_on=False)).max() > 100 * CLOSE


@pytest.mark.parametrize("rig", ["sd15", "sdxl"], indirect=True)
def test_so_they_are_with_a_controlnet_which_reads_the_text_alone(rig):
    expected = rig.theirs(
        "plain", 0.9, control=True, prompt="gold", num_inference_steps=2, guidance_scale=3.0, negative_prompt="ink"
    )
    values = {"prompt": "gold", "negative": "ink", "guidance": 3.0, "guidance_mode": "full", "ip_scale": 0.9}
    unit = {"control1_on": True, "control1_model": "edges", "control1_weight": 0.7}
    painted = rig.ours("plain", **values, **unit, strength=1.0, steps=2)
    assert np.abs(painted - expected).max() <= CLOSE
    for other in ({"control1_on": False}, {"ip_scale": 0.0}):
        assert (
            np.abs(rig.ours("plain", **{**values, **unit, **other}, strength=1.0, steps=2) - expected).max()
            > 100 * CLOSE
        )
