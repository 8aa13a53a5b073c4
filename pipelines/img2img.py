"""One frame. Read this first: the whole of what happens to a picture, in the paper's symbols."""

from __future__ import annotations

import torch
from torch import Tensor

from engines.base import Nets
from pipelines.control import controlled, prepare_hints
from pipelines.develop import develop, sees_bytes
from pipelines.guard import guard
from pipelines.knobs import Knobs
from pipelines.part import placed
from pipelines.past import begin, coloured, glance, noises, recall, refreshed, remember, steadied
from pipelines.prepare import finish, prepare, to_bytes
from pipelines.stages import Hand, at_once
from pipelines.state import StreamState
from pipelines.walk import walk


@torch.inference_mode()
def step(frame: Tensor, params: Knobs, state: StreamState, nets: Nets, hand: Hand = at_once) -> Tensor:
    """Paint one frame: uint8 [h, w, 1 | 3 | 4] in, uint8 [H, W, 3] out, both on the networks' device.

    Few-step SDEdit (Meng et al. 2022): the input's latent is noised to the level that strength names, and a distilled
    sampler walks back down under the prompt. Capturable: no host sync, no shape that depends on data; every number that
    may change while it runs is a tensor in `params`, and only `params.mode` decides which operations there are. What
    `hand` hands on ends a stage: on a card the stages of successive frames run beside each other.
    """
    mode = params.mode
    source = prepare(frame, mode.size, mode.fit, sees_bytes(params, nets))  # [1, 3, H, W] in [-1, 1], or bytes
    if mode.work == "bypass":
        return to_bytes(source)
    latent = glance(source, params, nets)  # [1, C, h, w]

    frame, source, latent = hand(frame, source, latent)
    past = recall(source, params, state)
    noise = noises(past, params, state)
    x0 = begin(source, latent, past, params, state, nets)
    hints = prepare_hints(frame, source, past, params, state, nets)
    denoise = controlled(nets, hints, params, state)
    x0 = remember(walk(denoise, x0, noise, params, nets), params, state)

    x0, source, numbers = hand(x0, source, params.numbers)
    params = params.over(numbers)
    image, ready = develop(x0, params, nets)
    if mode.partial:
        return finish(placed(image, source, params, state), source, params.mix)
    image = coloured(image, source, past, params, state)
    image = steadied(guard(image, source, state, ready), source, past, params, state)
    image = refreshed(image, source, past, params, state)
    return finish(image, source, params.mix, ready)
