"""TemporalNet2: the picture that came out last and the input's flow as colours, as its author feeds them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from pipelines.params import Params
from pipelines.preprocess.flowcolour import flow_to_image
from pipelines.preprocess.motion import motion as estimate
from pipelines.stream import DiffusionStream
from tests.support.controlnets import register, write_controlnet

SIDE = 64
CLOSE = 1e-3
RNG = np.random.default_rng(4)
BIG = np.kron(RNG.integers(0, 256, (12, 12, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
UNIT = {"control1_on": True, "control1_model": "six", "control1_source": "previous_output"}

pytestmark = pytest.mark.filterwarnings("ignore")


def view(at: int) -> np.ndarray:
    """A window that has gone `at` pixels to the right: what it shows goes to the left."""
    return np.ascontiguousarray(BIG[10 : 10 + SIDE, at : at + SIDE])


def middlebury(flow: np.ndarray) -> np.ndarray:
    """(h, w, 2) in pixels to RGB bytes, from the definition: six arcs of hues, interpolated by angle, towards white."""
    arcs = np.cumsum([0, 15, 6, 4, 11, 13, 6])
    colours = np.zeros((55, 3))
    ramps = [np.floor(255 * np.arange(b - a) / (b - a)) for a, b in itertools.pairwise(arcs)]
    colours[0:15] = np.stack([np.full(15, 255), ramps[0], np.zeros(15)], 1)  # red to yellow
    colours[15:21] = np.stack([255 - ramps[1], np.full(6, 255), np.zeros(6)], 1)  # to green
    colours[21:25] = np.stack([np.zeros(4), np.full(4, 255), ramps[2]], 1)  # to cyan
    colours[25:36] = np.stack([np.zeros(11), 255 - ramps[3], np.full(11, 255)], 1)  # to blue
    colours[36:49] = np.stack([ramps[4], np.zeros(13), np.full(13, 255)], 1)  # to magenta
    colours[49:55] = np.stack([np.full(6, 255), np.zeros(6), 255 - ramps[5]], 1)  # back to red
    flow = flow / (np.linalg.norm(flow, axis=2).max() + np.finfo(float).eps)
    place = (np.arctan2(-flow[..., 1], -flow[..., 0]) / np.pi + 1) / 2 * 54
    low = np.floor(place).astype(int)
    part = (place - low)[..., None]
    hue = ((1 - part) * colours[low] + part * colours[(low + 1) % 55]) / 255
    return np.floor(255 * (1 - np.linalg.norm(flow, axis=2)[..., None] * (1 - hue))).astype(np.uint8)


def test_flow_is_drawn_by_middleburys_wheel():
    y, x = np.mgrid[-1:1:97j, -1:1:131j]
    for flow in (np.stack([x, y], 2) * 40, RNG.normal(size=(50, 60, 2)) * 3, np.stack([y * 5, -x], 2)):
        drawn = flow_to_image(torch.from_numpy(flow).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0).numpy() * 255
        off = np.abs(drawn - middlebury(flow).astype(float))
        assert off.max() <= 1.01, "but for where a rounding falls"
        assert (off > 0.01).mean() < 0.01


@pytest.mark.parametrize(
    ("x", "y", "colour"), [(5, 0, (255, 0, 0)), (-5, 0, (0, 209, 255)), (0, 5, (255, 229, 0)), (0, -5, (88, 0, 255))]
)
def test_its_hue_says_where_to(x, y, colour):
    """What goes to the right is red, to the left cyan, down yellow, up violet: as everybody's pictures of flow."""
    flow = torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    assert np.abs(flow_to_image(flow)[0, :, 0, 0].numpy() * 255 - colour).max() <= 6


def test_what_stands_still_is_white_and_rounding_is_no_motion():
    assert bool((flow_to_image(torch.zeros(1, 2, 8, 8)) == 1).all())
    faint = flow_to_image(torch.full((1, 2, 8, 8), 1e-5))
    assert float(faint.min()) > 0.99


@pytest.fixture
def make(model_folder, tmp_path):
    made: list[DiffusionStream] = []
    folders: dict = {}

    def new(kind: str = "sd15") -> DiffusionStream:
        folder = folders.setdefault(kind, tmp_path / f"six-{kind}")
        if not folder.exists():
            write_controlnet(folder, model_folder(kind), seed=2, channels=6)
        register({"six": folder})
        nets = EagerEngine().load(model_folder(kind), Build(SIDE, SIDE, device="cpu", dtype="fp32"))
        made.append(DiffusionStream(nets, (SIDE, SIDE), Params()))
        return made[-1]

    yield new, folders
    for each in made:
        each.close()


def paint(stream: DiffusionStream, pixels: np.ndarray, **values) -> np.ndarray:
    """What was painted, before it became bytes: 0..1."""
    params = Params(**{"prompt": "neon", "strength": 1.0, "sampler": "turbo", "seed": 3, **UNIT, **values})
    stream.tune(params)
    stream(pixels, params)
    assert stream.notes()["control.error"] == ""
    return (stream.state.picture[0].permute(1, 2, 0).numpy() + 1).copy() / 2


def as_input(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def diffusers_pipeline(model, net, kind):
    import importlib

    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    xl = kind == "sdxl"
    name = f"pipeline_controlnet{'_sd_xl' if xl else ''}_img2img"
    cls = getattr(
        importlib.import_module(f"diffusers.pipelines.controlnet.{name}"),
        f"StableDiffusion{'XL' if xl else ''}ControlNetImg2ImgPipeline",
    )
    extra = {"add_watermarker": False} if xl else {"safety_checker": None, "requires_safety_checker": False}
    loaded = ControlNetModel.from_pretrained(net, local_files_only=True)
    pipe = cls.from_pretrained(model, controlnet=loaded, local_files_only=True, **extra)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_pictures_are_diffusers_own_given_the_same_six_channels(kind, make, model_folder):
    """Three frames: red, green, blue of the picture before, then of the flow from the input before to the present one.
    The first is given its own input and no motion."""
    new, folders = make
    mine = new(kind)
    pipe = diffusers_pipeline(model_folder(kind), folders[kind], kind)
    last, before, pictures = as_input(view(0)), as_input(view(0)), []
    for at in (0, 2, 4):
        now = as_input(view(at))
        onward = estimate(now, before) if at else torch.zeros(1, 2, SIDE, SIDE)
        expected = pipe(
            prompt="neon", image=now, control_image=torch.cat([last, flow_to_image(onward)], 1), num_inference_steps=1,
            strength=1.0, guidance_scale=1.0, controlnet_conditioning_scale=1.0, output_type="np",
            generator=torch.Generator("cpu").manual_seed(3),
        ).images[0]  # fmt: skip
        pictures.append(paint(mine, view(at)))
        assert np.abs(pictures[-1] - expected).max() <= CLOSE, at
        last, before = torch.from_numpy(expected).permute(2, 0, 1)[None], now
    assert np.abs(pictures[1] - pictures[0]).max() > 20 * CLOSE


def test_the_motion_alone_changes_the_picture(make):
    new, _ = make
    stills = new()
    paint(stills, view(4))
    kept = stills.state.picture.clone()
    still = paint(stills, view(4))
    stills.reset()
    paint(stills, view(2))
    stills.state.picture.copy_(kept)
    assert np.abs(paint(stills, view(4)) - still).max() > 20 * CLOSE


def test_what_breaks_the_past_gives_the_picture_of_a_first_frame(make):
    new, _ = make
    stream = new()
    cut = np.ascontiguousarray(255 - view(4)[::-1])
    sized = np.dstack([view(4), view(4)[..., :1]])
    for what, pixels in {"cut": cut, "size": sized, "nan": view(4), "bypass": view(4), "nothing": view(4)}.items():
        stream.reset()
        first = paint(stream, pixels)
        stream.reset()
        for at in (0, 2):
            paint(stream, view(at))
        if what == "nan":
            stream.state.unbroken.fill_(False)
        if what == "bypass":
            stream(pixels, Params(bypass=True, **UNIT))
        assert np.array_equal(paint(stream, pixels), first) == (what != "nothing"), what
