"""A part of a picture taken out, and put back, at a place that is a number on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.kernels import kernel


def cut_out(whole: Tensor, at: Tensor, height: int, width: int) -> Tensor:
    """[1, C, height, width] of `whole`, [1, C, H, W] of any type, from `at`: y and x in its own pixels, whole numbers
    [2]. Memory of its own."""
    found: Tensor = _cut_out(whole, at, height, width)
    return found


def put_back(whole: Tensor, part: Tensor, at: Tensor) -> None:
    """Write `part` over `whole`, from `at` on. Shapes as of `cut_out`."""
    _put_back(whole, part, at)


def _cut_everywhere(whole: Tensor, at: Tensor, height: int, width: int) -> Tensor:
    rows, columns = _lines(at, height, width)
    return whole.index_select(2, rows).index_select(3, columns)


def _cut_on_processor(whole: Tensor, at: Tensor, height: int, width: int) -> Tensor:
    y, x = (int(number) for number in at.tolist())
    return whole[:, :, y : y + height, x : x + width].clone()


def _put_everywhere(whole: Tensor, part: Tensor, at: Tensor) -> None:
    rows, columns = _lines(at, part.shape[2], part.shape[3])
    whole[:, :, rows[:, None], columns] = part


def _put_on_processor(whole: Tensor, part: Tensor, at: Tensor) -> None:
    y, x = (int(number) for number in at.tolist())
    whole[:, :, y : y + part.shape[2], x : x + part.shape[3]] = part


def _lines(at: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = at.to(torch.int64).unbind()
    return y + torch.arange(height, device=at.device), x + torch.arange(width, device=at.device)


_cut_out = kernel(
    "cut_out(Tensor whole, Tensor at, int height, int width) -> Tensor", _cut_everywhere, _cut_on_processor
)
_put_back = kernel("put_back(Tensor(a!) whole, Tensor part, Tensor at) -> ()", _put_everywhere, _put_on_processor)
