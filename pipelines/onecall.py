"""A sampler's one step as two weighted sums with the network between them. Plain numbers: this runs on the host."""

from __future__ import annotations

from pipelines.schedule import Levels, Prediction, SamplerName

Weights = tuple[float, float, float, float, float]


def one_call(sampler: SamplerName, levels: Levels, start: tuple[float, float], prediction: Prediction) -> Weights:
    """The weights of engines.given.Blend, for the only step of a walk that `start` (alpha, sigma) of latent and noise
    begins; all samplers but ddim, whose last word is a noise of its own. As pipelines.sampling, put together."""
    alpha, sigma = levels.alpha[0], levels.sigma[0]
    # x0 and eps, each of x and of what the network says
    clean, noise = {
        "epsilon": ((1.0 / alpha, -sigma / alpha), (0.0, 1.0)),
        "v_prediction": ((alpha, -sigma), (sigma, alpha)),
        "sample": ((0.0, 1.0), (1.0 / sigma, -alpha / sigma) if sampler == "tcd" else (0.0, 0.0)),
    }[prediction]
    of_clean, of_noise, of_x = {
        "turbo": (1.0, 0.0, 0.0),
        "lcm": (levels.c_out[0], 0.0, levels.c_skip[0]),
        "tcd": (levels.s_alpha[0], levels.s_sigma[0], 0.0),
    }[sampler]
    of_x += of_clean * clean[0] + of_noise * noise[0]
    said = of_clean * clean[1] + of_noise * noise[1]
    return (*start, of_x * start[0], of_x * start[1], said)
