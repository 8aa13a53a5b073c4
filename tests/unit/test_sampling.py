"""Every sampler against diffusers' own scheduler, stepping on the same latents, network outputs and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler

from engines.errors import ModelError
from pipelines.sampling import SAMPLERS, draws, split
from pipelines.schedule import MAX_STEPS, Levels, NoiseSchedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers' Euler

CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {"lcm": LCMScheduler, "turbo": EulerDiscreteScheduler, "tcd": TCDScheduler, "ddim": DDIMScheduler}
SHAPE = (1, 4, 8, 8)


def reference(name, prediction, steps, **extra):
    spacing = {
        "turbo": {"timestep_spacing": "trailing"},
        "ddim": {"timestep_spacing": "trailing", "clip_sample": False},
    }
    scheduler = SCHEDULERS[name].from_config(
        {**CONFIG, "prediction_type": prediction, **spacing.get(name, {}), **extra}
    )
    scheduler.set_timesteps(steps)
    return scheduler


def net(x, t):
    """Stands in for a UNet: a smooth function of the latent and the timestep."""
    return torch.tanh(0.7 * x.roll(1, -1) + 0.3 * x + t / 1000.0)


def walk_theirs(name, prediction, steps, noise, start, eta, monkeypatch, **extra):
    """Their loop, as their pipelines write it, with our noise in place of what they would draw."""
    scheduler, x, fresh = reference(name, prediction, steps, **extra), start, iter(noise[1:])
    module = f"diffusers.schedulers.{scheduler.__module__.rsplit('.', 1)[1]}"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *a, **k: next(fresh))
    if name == "turbo":
        x = x * (1.0 + scheduler.sigmas[0] ** 2) ** 0.5
    given = {"tcd": {"eta": eta}, "ddim": {"eta": eta}}.get(name, {})
    for t in scheduler.timesteps:
        out = net(scheduler.scale_model_input(x, t), float(t))
        x = scheduler.step(out, t, x, **given).prev_sample
    return x


def walk_ours(name, prediction, steps, noise, start, eta, **extra):
    schedule = NoiseSchedule.from_config({**CONFIG, "prediction_type": prediction, **extra})
    numbers = schedule.levels(name, steps, 1.0, eta)
    levels = Levels(*(torch.tensor(row).unbind() for row in numbers))

    def model(x, i):
        return split(net(x, levels.t[i]), x, levels.alpha[i], levels.sigma[i], prediction)

    return SAMPLERS[name](model, start, levels, noise)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_a_walk_is_diffusers_own(name, prediction, eta, monkeypatch):
    noise = list(torch.randn(MAX_STEPS + 1, *SHAPE, generator=torch.Generator().manual_seed(5)))
    for steps in range(1, MAX_STEPS + 1):
        theirs = walk_theirs(name, prediction, steps, noise, noise[0], eta, monkeypatch)
        ours = walk_ours(name, prediction, steps, noise[: draws(name, steps)], noise[0], eta)
        scale = max(1.0, float(theirs.abs().max()))
        assert float((ours - theirs).abs().max()) / scale <= 1e-4, steps


OTHER = [("turbo", {"rescale_betas_zero_snr": True}), ("ddim", {"beta_schedule": "squaredcos_cap_v2"})]


@pytest.mark.parametrize(("name", "extra"), OTHER)
def test_other_noise_schedules_are_diffusers_own(name, extra, monkeypatch):
    noise = list(torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(5)))
    for steps in (1, 2, 3):
        theirs = walk_theirs(name, "v_prediction", steps, noise, noise[0], 0.0, monkeypatch, **extra)
        ours = walk_ours(name, "v_prediction", steps, noise, noise[0], 0.0, **extra)
        assert float((ours - theirs).abs().max()) <= 1e-3  # turbo's cancels at sigma = 4096, where fp32 steps by 5e-4


def test_ddim_ends_where_the_model_was_trained_to(monkeypatch):
    noise = list(torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(5)))
    extra = {"set_alpha_to_one": False}
    theirs = walk_theirs("ddim", "epsilon", 4, noise, noise[0], 0.5, monkeypatch, **extra)
    assert float((walk_ours("ddim", "epsilon", 4, noise, noise[0], 0.5, **extra) - theirs).abs().max()) <= 1e-4


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_timesteps_at_full_strength_are_diffusers_own(name, steps):
    theirs = [int(t) for t in reference(name, "epsilon", steps).timesteps]
    assert NoiseSchedule.from_config(CONFIG).timesteps(name, steps) == theirs
    assert NoiseSchedule.from_config(CONFIG).levels(name, steps, 1.0, 0.3).t == theirs


@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_strength_is_continuous_in_the_noise_level(name):
    schedule = NoiseSchedule.from_config(CONFIG)
    for steps in range(1, MAX_STEPS + 1):
        sigma = np.array([schedule.levels(name, steps, s, 0.0).sigma for s in np.linspace(0, 1, 501)])
        moved = np.diff(sigma, axis=0)
        assert moved.min() > 0
        assert moved.max() < 0.03


def test_lcm_keeps_the_input_near_no_noise_as_diffusers_does():
    theirs = reference("lcm", "epsilon", 1)
    for strength in (0.0, 1 / 999, 3 / 999, 20 / 999):
        levels = NoiseSchedule.from_config(CONFIG).levels("lcm", 1, strength, 0.0)
        c_skip, c_out = theirs.get_scalings_for_boundary_condition_discrete(strength * 999)
        assert (levels.c_skip[0], levels.c_out[0]) == (pytest.approx(float(c_skip)), pytest.approx(float(c_out)))


def test_a_level_keeps_the_variance_and_meets_the_trained_ones():
    schedule = NoiseSchedule.from_config(CONFIG)
    abar = DDIMScheduler.from_config(CONFIG).alphas_cumprod.double().numpy()
    for t in (0, 1, 499, 998, 999):
        alpha, sigma = schedule.level(t)
        assert alpha**2 == pytest.approx(abar[t], rel=1e-4)
        assert alpha**2 + sigma**2 == pytest.approx(1.0)
    assert abar[500] < schedule.level(499.5)[0] ** 2 < abar[499]


@pytest.mark.parametrize("extra", [{"prediction_type": "score"}, {"beta_schedule": "sigmoid"}])
def test_a_schedule_that_is_not_known_is_refused_in_words(extra):
    with pytest.raises(ModelError, match="does not know"):
        NoiseSchedule.from_config({**CONFIG, **extra})
