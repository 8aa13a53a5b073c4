"""How a frame gets from the host's pixels to the host's pixels: one after the other, wherever torch runs.

`pipelines.lanes` does the same with recorded graphs and frames that overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from engines.base import Nets
from pipelines.img2img import step
from pipelines.knobs import Knobs, Mode
from pipelines.spec import Overtaken, Places
from pipelines.state import StreamState
from pipelines.transfer import Pixels, Transfer

Whole = Callable[[], bool]


class Painter(Protocol):
    """Belongs to the frame's thread."""

    @property
    def depth(self) -> int:
        """How many frames may be begun and not collected."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether it gains by pixels that lie in a ring."""
        ...

    def lend(self, places: Places | None) -> None:
        """See spec.Stream."""
        ...

    @property
    def failed(self) -> str:
        """What it can't do as it should, a sentence, or nothing."""
        ...

    live: bool
    """Whether people watch, so that no frame may be late for what can be made ready beside it. Before, and where
    pictures are to be the same each time, every frame is painted as it should be."""

    @property
    def doing(self) -> str:
        """What is being made ready, or nothing. From any thread."""
        ...

    def hold(self, knobs: Knobs, state: StreamState, nets: Nets) -> Mode | None:
        """Between `up` and `paint`: the mode that the frame is to be painted in while `knobs.mode` is made ready; None
        where that is ready, or can't be waited for."""
        ...

    def between(self) -> AbstractContextManager[None]:
        """Inside, numbers, prompts and memories may be written to the device."""
        ...

    def settle(self) -> None:
        """What follows may touch what the last frame left behind."""
        ...

    def meet(self) -> None:
        """What follows may touch what other threads have put on the device."""
        ...

    def up(self, pixels: Pixels, whole: Whole | None = None) -> Tensor:
        """uint8 (h, w, c) on the device, inside `between`; the next call overwrites it. `whole`: see spec.Stream."""
        ...

    def paint(self, frame: Tensor, knobs: Knobs, state: StreamState, nets: Nets) -> None:
        """Begin a frame, the one that `up` gave."""
        ...

    def collect(self) -> tuple[Pixels, Sequence[float]]:
        """Wait for the oldest frame that was begun: its picture, uint8 (H, W, 3), and `StreamState.numbers`."""
        ...

    def wait_s(self) -> float:
        """Seconds until another frame should be begun."""
        ...

    def close(self) -> None: ...


class Plain:
    """Implements Painter: every frame by itself, each operation as it comes."""

    depth, in_place = 1, False
    failed = doing = ""
    live = False

    def __init__(self, device: torch.device) -> None:
        self._transfer = Transfer(device)
        self._painted: tuple[Tensor, StreamState] | None = None

    def between(self) -> AbstractContextManager[None]:
        return nullcontext()

    def hold(self, knobs: Knobs, state: StreamState, nets: Nets) -> Mode | None:
        return None

    def settle(self) -> None: ...

    def meet(self) -> None: ...

    def up(self, pixels: Pixels, whole: Whole | None = None) -> Tensor:
        if whole is None:
            return self._transfer.up(pixels)
        taken = self._transfer.up(pixels.copy())
        if not whole():
            raise Overtaken
        return taken

    def lend(self, places: Places | None) -> None: ...

    def paint(self, frame: Tensor, knobs: Knobs, state: StreamState, nets: Nets) -> None:
        knobs.foreknown.refresh(knobs, nets)
        self._painted = step(frame, knobs, state, nets), state

    def collect(self) -> tuple[Pixels, Sequence[float]]:
        assert self._painted is not None, "a frame is collected that was not begun"
        (picture, state), self._painted = self._painted, None
        return self._transfer.down(picture, (state.held, state.cut.count, state.cut.difference))

    def wait_s(self) -> float:
        return 0.0

    def close(self) -> None: ...


def painter(nets: Nets, size: tuple[int, int]) -> Painter:
    """How these networks' frames are painted. `size`: (height, width)."""
    if nets.machine is None:
        return Plain(nets.device)
    from pipelines.lanes import Lanes

    return Lanes(nets.machine, size, nets.device)
