"""What a ControlNet computes for nothing is left out: gates of zeros, and the levels that lead to no other gate.

A ControlNet's outputs leave through convolutions that begin at zero (Zhang et al. 2023); one that was trained on some
levels alone, as pocket's TemporalNet, still has the others, and the layers before them. Its outputs stay what they
were, zeros included.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Nothing(nn.Module):
    """Zeros like its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand_as(x)


class Halve(nn.Module):
    """Every other pixel, for the size alone: (n, C, h, w) to (n, C, ⌈h/2⌉, ⌈w/2⌉)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2, ::2]


class IdleBlock(nn.Module):
    """In place of a block of the way down: tensors of its outputs' sizes, with nothing in them."""

    def __init__(self, channels: int, layers: int, halves: bool) -> None:
        super().__init__()
        self._channels, self._layers, self._halves = channels, layers, halves

    def forward(self, hidden_states: Tensor, temb: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last of them, and all."""
        del temb
        x = hidden_states[:, :1].new_zeros(()).expand(len(hidden_states), self._channels, *hidden_states.shape[2:])
        found = [x] * self._layers
        if self._halves:
            found.append(x[..., ::2, ::2])
        return found[-1], tuple(found)


class IdleMiddle(nn.Module):
    """In place of the middle block."""

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        del temb
        return x


def leave_out(net: Any) -> int:
    """Replaces what can't act in a diffusers ControlNetModel, in place; how many of its residuals are zero for good."""
    gates = [*net.controlnet_down_blocks, net.controlnet_mid_block]
    acts = [any(bool(weight.any()) for weight in gate.parameters()) for gate in gates]
    if all(acts):
        return 0
    last = max((i for i, act in enumerate(acts) if act), default=-1)
    for i, act in enumerate(acts[:-1]):
        if not act:
            net.controlnet_down_blocks[i] = Nothing()
    if not acts[-1]:
        net.controlnet_mid_block, net.mid_block = Nothing(), IdleMiddle()
    first = 1
    for i, block in enumerate(net.down_blocks):
        layers, halves = len(block.resnets), bool(block.downsamplers)
        if first > last:
            net.down_blocks[i] = IdleBlock(block.resnets[-1].out_channels, layers, halves)
        elif halves and first + layers > last:
            block.downsamplers[0] = Halve()
        first += layers + halves
    return acts.count(False)
