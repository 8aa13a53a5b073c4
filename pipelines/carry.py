"""What a network saw in a picture, carried along while that picture moves on and the network rests.

The way from the present frame back to the one that was looked at is added up, and the answer is moved along it once:
moving it anew from frame to frame would blur it. All of it is capturable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.preprocess.motion import motion
from pipelines.preprocess.warp import warp


class CarriedHint:
    """One unit's. Written in place, so that its addresses hold still."""

    def __init__(self, size: tuple[int, int], device: torch.device, beside: bool = False) -> None:
        """`size`: (height, width) at which the unit looks. `beside`: its network answers with a picture, and late."""
        self._answer = torch.zeros(1, 3 if beside else 1, *size, device=device)
        self._before = torch.zeros(1, 3, *size, device=device)
        self._way = torch.zeros(1, 2, *size, device=device)
        """Backward: what is at p now was at p + way[p] in the picture that was looked at."""
        self._late = torch.zeros(1, 2, *size, device=device) if beside else None
        """The same, to the picture that is being looked at."""

    def take(self, picture: Tensor, answer: Tensor) -> Tensor:
        """A new answer, [1, 1, h, w], to what is in `picture`, [1, 3, h, w] in 0..1; gives it back."""
        self._answer.copy_(answer)
        self._before.copy_(picture)
        self._way.zero_()
        return answer

    def move(self, picture: Tensor) -> Tensor:
        """The last answer, moved to where its parts are in `picture`."""
        moved = motion(self._before, picture)
        self._way.copy_(moved + warp(self._way, moved))
        if self._late is not None:
            self._late.copy_(moved + warp(self._late, moved))
        self._before.copy_(picture)
        return warp(self._answer, self._way)

    def watch(self, picture: Tensor) -> None:
        """Begin to follow what is in `picture`, before there is any answer."""
        self._before.copy_(picture)
        self._way.zero_()
        if self._late is not None:
            self._late.zero_()

    def show(self) -> Tensor:
        """Between frames: a copy of what was seen last, to be looked at beside the stream."""
        if self._late is not None:
            self._late.zero_()
        return self._before.clone()

    def renew(self, answer: Tensor) -> None:
        """Between frames: an answer, [1, 3, h, w], to the picture that `show` gave last."""
        self._answer.copy_(answer)
        if self._late is not None:
            self._way.copy_(self._late)
