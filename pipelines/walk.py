"""From the latent that a frame begins with to the clean one: a sampler's walk, or one call where that says the same."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from engines.base import Nets
from engines.given import Blend, blends
from pipelines.control import Denoise
from pipelines.guidance import guided
from pipelines.knobs import Knobs
from pipelines.sampling import SAMPLERS, noised


def walk(denoise: Denoise, x0: Tensor, noise: Sequence[Tensor], knobs: Knobs, nets: Nets) -> Tensor:
    """x0, what is painted over, and noises, all fp32 [1, C, h, w], to the clean latent.

    One step without guidance is a weighted sum before the network and one behind it. Beside a small network each of its
    operations costs as much as a layer, so that a network that can do it itself is let to.
    """
    if knobs.traits.one_call and blends(nets.unet):
        blend = Blend(noise[0], *knobs.blend)
        return denoise(x0, 0, knobs.positive, knobs.guidance, blend)
    x = noised(x0, noise[0], knobs.start_alpha, knobs.start_sigma)
    model = guided(denoise, x0, knobs)  # x, i -> x0, eps
    return SAMPLERS[knobs.mode.sampler](model, x, knobs.levels, noise)
