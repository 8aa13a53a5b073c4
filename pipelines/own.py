"""Pictures that control units have to themselves: of a stream of their own, or the input as it once was."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.params import ControlSource, Unit
from pipelines.transfer import Pixels, Transfer


class OwnPictures:
    """Belongs to the frame's thread. A picture of the same shape keeps its address."""

    def __init__(self, device: torch.device, own: dict[int, Tensor]) -> None:
        """Keeps `own`, unit number → uint8 [h, w, 1 | 3 | 4] on the device, at what each unit wants to see."""
        self._device, self._own = device, own
        self._streams: dict[int, Tensor] = {}
        self._stills: dict[int, Tensor] = {}
        self._transfers: dict[int, Transfer] = {}
        self._sources: tuple[ControlSource, ...] = ()

    def show(self, number: int, pixels: Pixels) -> None:
        """The newest picture of unit `number`'s own stream, uint8 (h, w, 1 | 3 | 4)."""
        transfer = self._transfers.setdefault(number, Transfer(self._device))
        _keep(self._streams, number, transfer.up(pixels))

    def choose(self, units: Sequence[Unit], frame: Tensor) -> None:
        """Before each frame: what each unit sees; `frame`, uint8 [h, w, c], becomes the still of one that asks now."""
        sources = tuple(unit.source for unit in units)
        if "still" not in sources and "stream" not in sources:
            self._own.clear()
            self._sources = sources
            return
        for number, source in enumerate(sources, 1):
            if source == "still" and (not self._sources or self._sources[number - 1] != "still"):
                _keep(self._stills, number, frame)
            shown = {"still": self._stills, "stream": self._streams}.get(source, {}).get(number)
            if shown is None:
                self._own.pop(number, None)
            else:
                self._own[number] = shown
        self._sources = sources

    def reset(self) -> None:
        """Forget the stills: the next frame becomes the still of each unit that wants one."""
        self._sources = ()


def _keep(pictures: dict[int, Tensor], number: int, picture: Tensor) -> None:
    """A copy: what was handed over may be overwritten."""
    old = pictures.get(number)
    if old is not None and old.shape == picture.shape:
        old.copy_(picture)
    else:
        pictures[number] = picture.clone()
