"""A walk of one call: two weighted sums around the network say what the sampler says, wherever nothing else is asked of
it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.base import Build
from engines.eager import EagerEngine
from engines.given import Blend, ahead_of
from pipelines.onecall import one_call
from pipelines.params import Params
from pipelines.sampling import SAMPLERS, noised, split
from pipelines.schedule import Levels, NoiseSchedule
from pipelines.stream import DiffusionStream
from tests.support.controlnets import write_controlnet

SIDE = 64
CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (1, 4, 8, 8)


def net(x: Tensor) -> Tensor:
    return torch.tanh(0.7 * x.roll(1, -1) + 0.3 * x)


@pytest.mark.parametrize("strength", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ["turbo", "lcm", "tcd"])
def test_two_sums_are_a_samplers_one_step(name, prediction, strength) -> None:
    random = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(*SHAPE, generator=random, dtype=torch.float64) for _ in range(2))
    schedule = NoiseSchedule.from_config({**CONFIG, "prediction_type": prediction})
    numbers = schedule.levels(name, 1, strength, 0.3)
    levels = Levels(*(torch.tensor(row, dtype=torch.float64).unbind() for row in numbers))
    for start in ((numbers.alpha[0], numbers.sigma[0]), (0.0, 1.0)):
        x = noised(clean, noise, *(torch.tensor(each, dtype=torch.float64) for each in start))
        wanted = SAMPLERS[name](
            lambda x, i: split(net(x), x, levels.alpha[i], levels.sigma[i], prediction), x, levels, [noise]
        )
        takes_x, takes_noise, gives_x, gives_noise, gives_said = one_call(name, numbers, start, prediction)
        found = gives_x * clean + gives_noise * noise + gives_said * net(takes_x * clean + takes_noise * noise)
        assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-9)


class Blending:
    """eager's denoiser, which makes the sums as a compiled one does."""

    blends = True

    def __init__(self, unet: Any) -> None:
        self._unet, self.spec, self.ahead = unet, unet.spec, ahead_of(unet)
        self.blended = 0

    def __call__(self, x: Tensor, *more: Any, blend: Blend | None = None, **named: Any) -> Tensor:
        if blend is None:
            return self._unet(x, *more, **named)
        self.blended += 1
        said = self._unet(blend.takes_x * x + blend.takes_noise * blend.noise, *more, **named)
        return blend.gives_x * x + blend.gives_noise * blend.noise + blend.gives_said * said


@pytest.mark.parametrize(
    ("values", "calls"),
    [
        ({}, 1),
        ({"mode": "txt2img"}, 1),
        ({"mode": "txt2img", "sampler": "lcm"}, 1),
        ({"sampler": "tcd", "eta": 0.4}, 1),
        ({"feedback": 0.5}, 1),
        ({"noise_mode": "travel", "noise_speed": 0.5}, 1),
        ({"reuse_deep": 2}, 1),
        ({"sampler": "ddim"}, 0),
        ({"steps": 2}, 0),
        ({"guidance_mode": "full"}, 0),
        ({"guidance_mode": "self"}, 0),
        ({"control1_on": True, "control1_model": "a"}, 0),
        ({"bypass": True}, 0),
    ],
)
def test_pictures_are_the_same_and_what_asks_for_more_walks(values, calls, model_folder, tmp_path) -> None:
    folder = model_folder("sd15")
    plain = EagerEngine().load(folder, Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    plain.controlnets["a"] = plain.load_control(write_controlnet(tmp_path / "a", folder))
    blending = Blending(plain.unet)
    streams = [
        DiffusionStream(nets, (SIDE, SIDE), Params(), sampler="turbo", clock=lambda: 0.0)
        for nets in (plain, dataclasses.replace(plain, unet=blending))
    ]
    random = np.random.default_rng(5)
    try:
        for n, strength in enumerate((0.4, 0.4, 0.9)):
            params = Params(strength=strength, seed=n, **values)
            frame = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            for stream in streams:
                stream.tune(params)
            one, two = (stream(frame, params).astype(int) for stream in streams)
            assert np.abs(one - two).max() <= 1, n
        assert blending.blended == 3 * calls
    finally:
        for stream in streams:
            stream.close()
