"""The denoiser's last block, and a ControlNet that acts there alone.

What the block ends with, its last hidden state, is normalised group by group before it becomes latents. So adding m
times the hidden state of another picture makes a mean of the two, weighted 1 to m: that is how a TemporalNet can hold
on to a picture without knowing what the denoiser is about to paint. The state is reached through a shortcut that is
linear; `begin` sets the gate to its inverse, and `read` is what then has to be learned first: to see in a picture the
state that it came from. Trained from zero instead, the gate takes too long to grow as large as that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

GATES = 2
"""Gates of the finest level, those that act."""
HELD = 0.4
"""How much of the picture in the hint is added to the denoiser's own, at first: a mean with 0.4 of 1.4."""
CALM = 0.05
"""What is left, at first, of what the ControlNet sees in the noised latents."""
STEEP = 0.03
"""Directions that the shortcut passes weaker than this share of the strongest are not turned up any further."""


@dataclass
class Before:
    """What comes to the denoiser's last block, without any help."""

    hidden: Tensor
    skips: tuple[Tensor, ...]
    emb: Tensor
    last: Tensor
    """What the block ends with, (n, width, side, side)."""


@dataclass
class Take:
    """One frame of some films; latents are (n, channels, side, side)."""

    noised: Tensor
    t: Tensor
    context: Tensor
    """(n, tokens, width)."""
    hint: Tensor
    """(n, 3, 8 · side, 8 · side) in 0..1."""
    known: Tensor
    """Where the unit acts, (n, 1, side, side) in 0..1."""
    before: Before
    plain: Tensor
    """The denoiser's own answer."""
    answer: Tensor
    shown: Tensor | None = None
    """The last hidden state of the picture in the hint, where that is known; as `before.last`."""


@torch.no_grad()
def unhelped(net: UNet2DConditionModel, noised: Tensor, t: Tensor, context: Tensor) -> tuple[Tensor, Before]:
    """The denoiser's answer, and what was in its last block on the way."""
    seen: list[Before] = []

    def look(_: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], last: Tensor) -> None:
        del args
        seen.append(Before(named["hidden_states"], tuple(named["res_hidden_states_tuple"]), named["temb"], last))

    hook = net.up_blocks[-1].register_forward_hook(look, with_kwargs=True)
    try:
        answer = net(noised, t, context).sample
    finally:
        hook.remove()
    return answer.float(), seen[0]


@torch.no_grad()
def begin(control: ControlNetModel, net: UNet2DConditionModel, scale: float) -> None:
    """A ControlNet as its training begins: it sees nothing yet, and what it sees goes straight to the last hidden
    state, whose standard deviation is `scale`. All but the gates that act is closed."""
    close(control)
    hint = control.controlnet_cond_embedding
    for layer in (hint.conv_in, *hint.blocks, hint.conv_out):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    for weight in control.conv_in.parameters():
        weight.mul_(CALM)
    left, size, right = torch.linalg.svd(_shortcut(net)[:, :, 0, 0].float())
    inverse = right.T @ torch.diag(1 / size.clamp_min(STEEP * size.max())) @ left.T
    control.controlnet_down_blocks[0].weight.copy_(scale * inverse[:, :, None, None])


def reading_loss(control: ControlNetModel, net: UNet2DConditionModel, take: Take) -> Tensor:
    """How far what the first gate adds to the last hidden state, straight through, is from HELD of what the picture in
    the hint ended with; as a share of its variance."""
    assert take.shown is not None
    seen = control.conv_in(take.noised) + control.controlnet_cond_embedding(take.hint)
    added = F.conv2d(control.controlnet_down_blocks[0](seen), _shortcut(net)).float()
    wanted = HELD * take.shown.float()
    return (added - wanted).square().mean() / wanted.square().mean()


def _shortcut(net: UNet2DConditionModel) -> Tensor:
    """The way of the finest skip into the last hidden state, (width, width, 1, 1)."""
    weight: Tensor = net.up_blocks[-1].resnets[-1].conv_shortcut.weight
    return weight[:, -weight.shape[0] :]


def helped(net: UNet2DConditionModel, control: ControlNetModel, take: Take) -> tuple[Tensor, Tensor]:
    """The denoiser's answer with the ControlNet at weight 1, of which the finest level alone acts, and the last hidden
    state on the way there."""
    emb = control.time_embedding(control.time_proj(take.t).to(take.noised.dtype))
    emb = emb + control.add_embedding(take.context)
    sample = control.conv_in(take.noised) + control.controlnet_cond_embedding(take.hint)
    first = control.down_blocks[0].resnets[0](sample, emb)
    help_ = (control.controlnet_down_blocks[0](sample), control.controlnet_down_blocks[1](first))
    before = take.before
    skips = tuple(skip + more * take.known for skip, more in zip(before.skips, help_, strict=True))
    x = net.up_blocks[-1](before.hidden, skips, before.emb)
    made: Tensor = net.conv_out(net.conv_act(net.conv_norm_out(x)))
    return made.float(), x


@torch.no_grad()
def importance(vae: AutoencoderTiny, latents: Tensor) -> Tensor:
    """How much each channel of latents (n, channels, h, w) shows in pictures, (channels, 1, 1), 1 on average: most hold
    detail of which one sees little, and would fill the loss."""
    still = vae.decode(latents).sample.float()
    out = []
    for channel in range(latents.shape[1]):
        other = latents.clone()
        other[:, channel] += 0.5
        out.append((vae.decode(other).sample.float() - still).square().mean().sqrt())
    seen = torch.stack(out)
    return (seen / seen.mean())[:, None, None]


def loss(made: Tensor, take: Take, weights: Tensor) -> Tensor:
    """As far as the answer lies off, by what that shows (`importance`)."""
    off = (made - take.answer) * weights
    return off.abs().mean() + off.square().mean()


def state_loss(last: Tensor, net: UNet2DConditionModel, take: Take) -> Tensor:
    """How far the last hidden state, normalised, is from the mean of both pictures'."""
    assert take.shown is not None
    wanted = net.conv_norm_out(take.before.last + HELD * take.shown)
    away: Tensor = (net.conv_norm_out(last) - wanted).abs().mean()
    return away


def close(control: ControlNetModel) -> None:
    """Zeros for the gates of the other levels."""
    for gate in (*control.controlnet_down_blocks[GATES:], control.controlnet_mid_block):
        for weight in gate.parameters():
            nn.init.zeros_(weight)


def parts(control: ControlNetModel) -> dict[str, nn.Module]:
    """What of it learns: the gates that act, and what leads to them."""
    hint = control.controlnet_cond_embedding
    rest = [control.conv_in, control.time_embedding, control.add_embedding, control.down_blocks[0].resnets[0]]
    control_parts = nn.ModuleList([*rest, hint.conv_in, *hint.blocks, hint.conv_out])
    return {"control": control_parts, "gates": nn.ModuleList(control.controlnet_down_blocks[:GATES])}
