"""What a frame may know of the one before it, and when it may not: after a cut, a NaN, a change of the input's size.

All of it is decided on the device, without a host sync; what the frame's mode has no use for is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from engines.base import Nets
from pipelines.coherence.feedback import feedback, trust
from pipelines.coherence.refresh import RENEWED
from pipelines.coherence.smooth import smooth, stillness
from pipelines.knobs import Knobs
from pipelines.part import noise_there, seen
from pipelines.preprocess.motion import motion
from pipelines.preprocess.warp import warp
from pipelines.sampling import draws
from pipelines.state import StreamState


class Past(NamedTuple):
    """Of the same scene, or else the present input: [1, 3, H, W] in [-1, 1]."""

    picture: Tensor
    """The last picture that was painted, before `mix` and smoothing."""
    source: Tensor
    """The input that came before this one."""
    cut: Tensor
    """Whether this frame begins a scene: 0-dim bool."""
    known: Tensor
    """Whether there are both, of the same scene: 0-dim bool."""
    flow: Tensor
    """From `source` to the present input, backward: [1, 2, H, W] px. Empty where nobody asks."""
    trust: Tensor
    """Where the flow can be believed and leads to something known, 0..1: [1, 1, H, W]. Empty where nobody asks."""
    onward: Tensor
    """From `source` to the present input, forward, on the grid of `source`; 0 where there is no past: [1, 2, H, W] px.
    Empty where nobody asks."""


def recall(source: Tensor, knobs: Knobs, state: StreamState) -> Past:
    """The past as seen from `source`, [1, 3, H, W] in [-1, 1], which becomes the past of the next frame."""
    if not knobs.traits.looks_back or knobs.mode.partial:  # then the host has seen that the scene is the same
        empty = state.empty
        return Past(source, source, state.nothing, state.nothing, empty, empty, empty)
    cut = state.cut(source, knobs.cut_sensitivity)
    good, next_to = state.unbroken & ~cut, state.followed & ~cut
    picture = torch.where(good, state.picture, source)
    before = torch.where(next_to, state.source, source)
    known, flow, where, onward = good & next_to, source[:0], source[:0], source[:0]
    if knobs.mode.follows:
        flow = motion(before * 0.5 + 0.5, source * 0.5 + 0.5)
    if knobs.mode.moves_pictures:
        where = trust(flow, before, source) * known
    if any(unit.sees_flow for unit in knobs.mode.units):
        onward = motion(source * 0.5 + 0.5, before * 0.5 + 0.5) * known
    state.source.copy_(source)
    state.followed.fill_(True)
    return Past(picture, before, cut, known, flow, where, onward)


def noises(past: Past, knobs: Knobs, state: StreamState) -> Sequence[Tensor]:
    """This frame's noises, [1, C, h, w] each: those of the seed, or those that they have become."""
    found = _noises(past, knobs, state)
    if not knobs.mode.partial:
        return found
    return [noise_there(noise, knobs) for noise in found[: draws(knobs.mode.sampler, knobs.mode.steps)]]


def _noises(past: Past, knobs: Knobs, state: StreamState) -> Sequence[Tensor]:
    mode = knobs.mode
    if mode.temporal.noise == "fixed":
        return knobs.noise
    count = draws(mode.sampler, mode.steps)
    if mode.temporal.noise == "travel":
        return state.travelling(knobs.noise_speed, count)
    assert state.moving is not None
    return tuple(noise[None] for noise in state.moving(past.flow, count).unbind())


def moved_along(past: Past) -> Tensor:
    """The last picture, [1, 3, H, W] in [-1, 1], with its parts where they are now; `past.trust` says where it is."""
    return warp(past.picture, past.flow, "bicubic").clamp(-1.0, 1.0)


def glance(source: Tensor, knobs: Knobs, nets: Nets) -> Tensor:
    """The input's own latent, [1, C, h, w]; empty where nobody asks."""
    mode = knobs.mode
    if mode.work == "txt2img" or mode.temporal.feedback == "pixel":
        return source[:0]
    return nets.encode(seen(source, knobs))


def begin(source: Tensor, latent: Tensor, past: Past, knobs: Knobs, state: StreamState, nets: Nets) -> Tensor:
    """The latent that is painted over, [1, C, h, w]: the input's, with as much of the last picture as feedback says."""
    mode = knobs.mode
    if mode.work == "txt2img":
        return knobs.blank
    if mode.temporal.feedback == "pixel":
        return nets.encode(feedback(source, past.picture, past.flow, past.trust, knobs.feedback))
    if mode.temporal.feedback == "latent":
        return feedback(latent, state.latent, past.flow, past.trust, knobs.feedback)
    return latent


def remember(x0: Tensor, knobs: Knobs, state: StreamState) -> Tensor:
    """x0, [1, C, h, w], kept for the next frame's feedback."""
    if knobs.traits.looks_back and not knobs.mode.partial:
        state.latent.copy_(x0)
    return x0


def coloured(image: Tensor, source: Tensor, past: Past, knobs: Knobs, state: StreamState) -> Tensor:
    """`image`, [1, 3, H, W] in [-1, 1], with the reference's colours."""
    colours = knobs.mode.temporal.colours
    if colours is None:
        return image
    match = state.colours[colours.space, colours.method]
    if colours.reference == "input":
        match.take(source, ~state.nothing)
    elif colours.reference == "first":
        match.take(image, ~match.taken | past.cut)
    return match(image, knobs.colour_amount)


def steadied(image: Tensor, source: Tensor, past: Past, knobs: Knobs, state: StreamState) -> Tensor:
    """`image`, [1, 3, H, W] in [-1, 1], with what was shown before where it stands still, or moved along."""
    how = knobs.mode.temporal.smoothing
    if how == "off":
        return image
    if how == "flow":
        moved = warp(state.shown, past.flow, "bicubic").clamp(-1.0, 1.0)
        shown = smooth(image, moved, knobs.smoothing, past.trust)
    else:
        shown = smooth(image, state.shown, knobs.smoothing, stillness(past.source, source) * past.known)
    state.shown.copy_(shown)
    return shown


def refreshed(image: Tensor, source: Tensor, past: Past, knobs: Knobs, state: StreamState) -> Tensor:
    """`image`, [1, 3, H, W] in [-1, 1], where the input moved; what was shown before elsewhere."""
    if not knobs.mode.temporal.refresh:
        return image
    assert state.refresh is not None
    longest = knobs.refresh_max_age * RENEWED if knobs.mode.window is not None else knobs.refresh_max_age
    return state.refresh(image, source, past.known, knobs.refresh_threshold, longest)
