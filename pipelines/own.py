"""Pictures that control units and the image prompt have to themselves: of a stream of their own, or the input as it
once was."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.params import ImageSource
from pipelines.spec import IMAGE
from pipelines.transfer import Pixels, Transfer
from pipelines.unitrow import ControlSource, Unit


class OwnPictures:
    """Belongs to the frame's thread. A picture of the same shape keeps its address."""

    def __init__(self, device: torch.device, own: dict[int, Tensor]) -> None:
        """Keeps `own`, unit number → uint8 [h, w, 1 | 3 | 4] on the device, at what each unit wants to see."""
        self._device, self._own = device, own
        self._streams: dict[int, Tensor] = {}
        self._stills: dict[int, Tensor] = {}
        self._transfers: dict[int, Transfer] = {}
        self._sources: dict[int, ControlSource | ImageSource] = {}
        self._kept: dict[int, int] = {}

    def show(self, number: int, pixels: Pixels) -> None:
        """The newest picture of unit `number`'s own stream, uint8 (h, w, 1 | 3 | 4)."""
        transfer = self._transfers.setdefault(number, Transfer(self._device))
        self._keep(self._streams, number, transfer.up(pixels))

    def of(self, number: int) -> Tensor | None:
        """What unit `number` sees now, if that is a picture of its own."""
        return self._own.get(number)

    def count(self, number: int) -> int:
        """How many pictures unit `number` has been given: a new number, a new picture."""
        return self._kept.get(number, 0)

    def choose(self, units: Sequence[Unit], frame: Tensor, image: ImageSource = "input") -> None:
        """Before each frame: what each unit sees, and the image prompt; `frame`, uint8 [h, w, c], becomes the still of
        one that asks now."""
        sources = {IMAGE: image, **{number: unit.source for number, unit in enumerate(units, 1)}}
        if "still" not in sources.values() and "stream" not in sources.values():
            self._own.clear()
            self._sources = sources
            return
        for number, source in sources.items():
            if source == "still" and self._sources.get(number) != "still":
                self._keep(self._stills, number, frame)
            shown = {"still": self._stills, "stream": self._streams}.get(source, {}).get(number)
            if shown is None:
                self._own.pop(number, None)
            else:
                self._own[number] = shown
        self._sources = sources

    def reset(self) -> None:
        """Forget the stills: the next frame becomes the still of each unit that wants one."""
        self._sources = {}

    def _keep(self, pictures: dict[int, Tensor], number: int, picture: Tensor) -> None:
        self._kept[number] = self.count(number) + 1
        _keep(pictures, number, picture)


def _keep(pictures: dict[int, Tensor], number: int, picture: Tensor) -> None:
    """A copy: what was handed over may be overwritten."""
    old = pictures.get(number)
    if old is not None and old.shape == picture.shape:
        old.copy_(picture)
    else:
        pictures[number] = picture.clone()
