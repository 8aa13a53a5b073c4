"""ControlNet (Zhang et al. 2023) in one frame: pictures to hints, hints to what is added to the denoiser.

TemporalNet (Rowles 2023) is a ControlNet whose hint is the picture that came out last: source `previous_output`, no
preprocessor. TemporalNet2's has six channels: that picture, then the flow from the input before to this one as colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.base import HintNet, Nets
from engines.given import Blend
from pipelines.knobs import Knobs
from pipelines.pace import WAITING
from pipelines.part import seen
from pipelines.past import Past, moved_along
from pipelines.prepare import prepare, to_bytes
from pipelines.preprocess.flowcolour import flow_to_image
from pipelines.preprocess.registry import CHOICES
from pipelines.state import StreamState
from pipelines.units import UnitMode

Denoise = Callable[..., Tensor]
"""(x, i, cond, guidance=None, blend=None) to what the UNet says at step i; see engines.base.UNet."""


class Hint(NamedTuple):
    """What one unit is shown in this frame."""

    unit: UnitMode
    embedded: Tensor
    """As its network uses it."""
    masks: tuple[Tensor, ...]
    """Where it acts, 0..1, at the size of each residual; empty for everywhere."""


def prepare_hints(
    frame: Tensor, source: Tensor, past: Past, knobs: Knobs, state: StreamState, nets: Nets
) -> list[Hint]:
    """The hint of each unit that runs. frame: uint8 [h, w, 1 | 3 | 4] as it came; source: [1, 3, H, W] in [-1, 1]."""
    mode = knobs.mode
    hints = []
    for unit in mode.units:
        own = knobs.units.own[unit.number] if unit.own else frame
        shown = _hint(_picture(unit, own, source, past, knobs), unit, knobs, state, nets)
        if unit.look in WAITING:
            continue
        if unit.sees_flow:
            shown = torch.cat([shown, flow_to_image(past.onward)], 1)
        if unit.number == mode.hint:
            state.hint.copy_(to_bytes(torch.add(-1.0, shown[:, -3:], alpha=2.0)))  # of six channels, the flow
        masks = _masks(own, unit, past, mode.size, nets)
        hints.append(Hint(unit, nets.controlnets[unit.net].embed(seen(shown, knobs)), masks))
    return hints


def controlled(nets: Nets, hints: Sequence[Hint], knobs: Knobs, state: StreamState) -> Denoise:
    """The UNet with the sum of what every unit adds to it, and the picture that it reads beside the text.

    ControlNets read the text alone: no image adapter is trained into them. Where what its deep levels said is kept, the
    UNet's outermost level runs alone, and so much of each ControlNet as that takes.
    """
    mode = knobs.mode

    def denoise(
        x: Tensor, i: int, cond: Sequence[Tensor], guidance: Tensor | None = None, blend: Blend | None = None
    ) -> Tensor:
        t: Tensor = knobs.levels.t[i]
        total: tuple[Tensor, ...] = ()
        with nets.aside() if nets.aside is not None and hints else nullcontext():
            for hint in hints:
                if hint.unit.steps[i]:
                    total = _sum(total, _residuals(nets, hint, x, i, cond, knobs, state))
        image = knobs.image.look(mode.image, x.shape[0])
        deep = state.deep.at(nets, mode.deep, i, x.shape[0])
        more = knobs.foreknown.look(nets.unet, i, x, knobs) | state.surroundings.at(nets, mode, i, x.shape[0])
        if blend is not None:
            more["blend"] = blend
        return nets.unet(x, t, cond, guidance, total, image, deep, **more)

    return denoise


def _residuals(
    nets: Nets, hint: Hint, x: Tensor, i: int, cond: Sequence[Tensor], knobs: Knobs, state: StreamState
) -> tuple[Tensor, ...]:
    net = nets.controlnets[hint.unit.net]
    outer = nets.outer.residuals if nets.outer is not None and knobs.mode.deep == "kept" else None
    more = knobs.foreknown.look(net, i, x, knobs) | state.surroundings.at(
        nets, knobs.mode, i, x.shape[0], hint.unit.net
    )
    found = net(x, knobs.levels.t[i], cond, hint.embedded, outer is not None, **more)[:outer]
    scales = knobs.units.scales(hint.unit.number, x.shape[0])[:outer]
    scaled = tuple(residual * scale for residual, scale in zip(found, scales, strict=True))
    return tuple(a * mask for a, mask in zip(scaled, hint.masks[:outer], strict=True)) if hint.masks else scaled


def _sum(total: tuple[Tensor, ...], more: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(a + b for a, b in zip(total, more, strict=True)) if total else more


def _picture(unit: UnitMode, own: Tensor, source: Tensor, past: Past, knobs: Knobs) -> Tensor:
    """What the unit looks at, [1, 3, *unit.size] in [-1, 1]."""
    mode = knobs.mode
    if unit.follow:
        return _resized(moved_along(past), unit.size)
    if unit.source in ("previous_output", "previous_input"):
        return _resized(past.picture if unit.source == "previous_output" else past.source, unit.size)
    if unit.source == "input" and (unit.size, unit.fit) == (mode.size, mode.fit):
        return source
    return prepare(own, unit.size, unit.fit)


def _hint(picture: Tensor, unit: UnitMode, knobs: Knobs, state: StreamState, nets: Nets) -> Tensor:
    """[1, 3, *unit.size] in [-1, 1] to the hint, [1, 3, H, W] in 0..1."""
    maker = CHOICES[unit.preprocessor]
    shown = torch.add(0.5, picture, alpha=0.5)
    if maker.needs:
        shown = _seen(shown, unit, nets.hintnets[maker.needs], state)
    return _resized(maker.finish(shown, *knobs.units.bounds[unit.number - 1]), knobs.mode.size)


def _seen(picture: Tensor, unit: UnitMode, net: HintNet, state: StreamState) -> Tensor:
    """What a network sees in [1, 3, *unit.size], in 0..1; or saw in one before, moved to where that is now."""
    if unit.look == "each":
        return net(picture)
    carried = state.hints[unit.memory]
    if unit.look == "watch":
        carried.watch(picture)
        return picture
    return carried.take(picture, net(picture)) if unit.look == "look" else carried.move(picture)


def _resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(picture.shape[2:]) == size:
        return picture
    return F.interpolate(picture, size, mode="bilinear", antialias=True)


def _masks(own: Tensor, unit: UnitMode, past: Past, size: tuple[int, int], nets: Nets) -> tuple[Tensor, ...]:
    """Where the unit acts, at the size of every residual: by the alpha of uint8 [h, w, 4], fitted as the picture is;
    and only where the last picture could be moved along. Empty for everywhere."""
    where = past.trust if unit.follow else None
    if unit.mask != "off":
        alpha = torch.add(0.5, prepare(own[:, :, 3:], size, unit.fit)[:, :1], alpha=0.5)
        alpha = alpha if unit.mask == "alpha" else 1.0 - alpha
        where = alpha if where is None else where * alpha
    if where is None:
        return ()
    sizes = {shape[1:] for shape in nets.residuals}
    small = {to: F.interpolate(where, to, mode="area").to(nets.dtype) for to in sizes}
    return tuple(small[shape[1:]] for shape in nets.residuals)
