"""A denoiser's graph with the weighted sums of engines.given.Blend around it, for a compiler that makes one of all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engines.given import Blend
from engines.graphs import Graph


class BlendGraph(nn.Module):
    """x, noise, the weights, then what comes after x in the graph inside."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        # OpenVINO does not find what is in a module in a module
        self.net, self._run = graph.net, graph.forward

    def forward(
        self, x: Tensor, noise: Tensor, takes_x: Tensor, takes_noise: Tensor, gives_x: Tensor, gives_noise: Tensor,
        gives_said: Tensor, *more: Tensor,
    ) -> Any:  # fmt: skip
        found: Any = self._run(takes_x * x + takes_noise * noise, *more)
        said, *deep = found if isinstance(found, tuple) else (found,)
        given = gives_x * x + gives_noise * noise + gives_said * said
        return (given, *deep) if deep else given


def blended(graph: Graph) -> Graph:
    """A denoiser's, which takes a Blend behind x."""
    x, *more = graph.inputs.values()
    weights = dict(zip(Blend._fields, (torch.zeros(x.shape), *torch.full((5, 1), 0.5).unbind()), strict=True))
    names = list(graph.inputs)
    return Graph(
        BlendGraph(graph.module), {names[0]: x, **weights, **dict(zip(names[1:], more, strict=True))}, graph.outputs
    )
