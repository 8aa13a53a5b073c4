"""TOPs: pixels as TouchDesigner has them, bottom row first, pulled by whoever wants them."""

from __future__ import annotations

from typing import Any

import numpy as np
from td.fake.core import tdError
from td.fake.ops import OP, Connector

BLACK = np.zeros((128, 128, 4), np.float32)
PASSING = ("outTOP", "nullTOP", "transformTOP", "ndioutTOP", "syphonspoutoutTOP")


class TOP(OP):
    """`_pixels`: (h, w, 4) float32, bottom row first."""

    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self._pixels, self._last, self._cooked, self._downloads = BLACK, None, 0, 0
        self._format, self._uploads = "rgba8fixed", 0

    @property
    def width(self) -> int:
        return int(self._pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self._pixels.shape[0])

    @property
    def totalCooks(self) -> int:
        return self._cooked

    def numpyArray(self, delayed: bool = False, writable: bool = False, neverNone: bool = False) -> Any:
        """float32 whatever the format; `delayed` gives what the call before this one saw, and does not stall."""
        self._cook(False)
        self._settle()
        self._downloads += 1
        now, self._last, before = self._pixels, self._pixels, self._last
        if not delayed:
            self._world._stalls += 1
            return now
        return before if before is not None or not neverNone else now

    def cudaMemory(self, stream: Any = None, pixelFormat: Any = None) -> Any:
        """A copy of the texture in the card's memory, freed with the object. With a stream nobody waits for it."""
        gpu = self._card("cudaMemory")
        self._cook(False)
        form = self._form()
        if form == "rgba16float":
            raise tdError("cudaMemory: unsupported pixel format rgba16float")
        self._uploads += 1
        if stream is None:
            self._world._stalls += 1
        return gpu.lend(self._pixels, form, stream)

    def _card(self, what: str) -> Any:
        if self._world._gpu is None:
            raise tdError(f"{what} works on an NVIDIA card alone")
        return self._world._gpu

    def _settle(self) -> None:
        """Who asks for pixels waits until the card has done what was asked of it."""
        if self._world._gpu is not None:
            self._world._gpu.drain()

    def _form(self) -> str:
        own = self._pars["format"].eval() if "format" in self._pars else "useinput"
        source = self._chosen()
        return str(own if own != "useinput" else source._form() if source is not None else self._format)

    def _source(self, index: int) -> Any:
        found = self._ins()[index]._connections if index < len(self._ins()) else []
        return _behind(found[0]) if found else None

    def _cook(self, force: bool) -> None:
        source = self._chosen()
        if source is not None:
            source._cook(False)
            self._pixels = source._pixels
        elif self._type in ("inTOP", "outTOP", "switchTOP", "nullTOP", "transformTOP"):
            self._pixels = BLACK
        self._cooked += 1

    def _chosen(self) -> Any:
        if self._type == "inTOP":
            ends = [op for op in self._parent._children.values() if op._type == "inTOP"]
            found = self._parent._ins()[ends.index(self)]._connections
            return _behind(found[0]) if found else None
        if self._type == "switchTOP":
            wired = [c for c in self._ins() if c._connections]
            index = max(0, min(len(wired) - 1, int(self._pars["index"].eval())))
            return self._source(wired[index]._index) if wired else None
        return self._source(0) if self._type in PASSING else None

    def _show(self, picture: np.ndarray) -> None:
        """What a camera or movie shows: (h, w, 3 | 4) uint8, top row first, as people see it."""
        floats = np.ones((*picture.shape[:2], 4), np.float32)
        floats[..., : picture.shape[2]] = picture[::-1].astype(np.float32) / 255
        self._pixels = floats

    def _seen(self) -> np.ndarray:
        """What is on the screen: (h, w, 4) uint8, top row first."""
        self._settle()
        self._cook(False)
        return np.rint(self._pixels[::-1] * 255).astype(np.uint8)


class scriptTOP(TOP):
    def _cook(self, force: bool) -> None:
        # Cooks when it is asked to, or the first time that anyone looks: nothing else here is a dependency of it.
        if not force and self._cooked:
            return
        self._cooked += 1
        callbacks = self._pars["callbacks"].eval()
        if callbacks is None:
            return
        outer, self._world._cooking = self._world._cooking, self
        self._warnings.clear()
        try:
            callbacks._call("onCook", self)
        finally:
            self._world._cooking = outer

    def copyNumpyArray(self, array: Any) -> None:
        if self._world._cooking is not self and not self._pars["modoutsidecook"].eval():
            raise tdError("copyNumpyArray works only within onCook")
        if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.uint16, np.float32):
            raise tdError("copyNumpyArray takes uint8, uint16 or float32")
        if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
            raise tdError(f"copyNumpyArray takes (height, width, 1 to 4), not {array.shape}")
        self._world._copied.append(id(array))
        self._settle()
        floats = np.ones((*array.shape[:2], 4), np.float32)
        scale = {"uint8": 255, "uint16": 65535, "float32": 1}[array.dtype.name]
        floats[..., : array.shape[2]] = array / np.float32(scale)
        self._pixels = floats

    def copyCUDAMemory(self, address: int, size: int, shape: Any, stream: Any = None) -> None:
        gpu = self._card("copyCUDAMemory")
        if self._world._cooking is not self and not self._pars["modoutsidecook"].eval():
            raise tdError("copyCUDAMemory works only within onCook")
        gpu.take(address, size, shape, stream, self._painted)

    def _painted(self, pixels: np.ndarray) -> None:
        self._pixels = pixels


def _behind(end: Connector) -> Any:
    """The operator whose picture comes out here; for a COMP the Out operator inside."""
    owner = end._owner
    if owner._family != "COMP":
        return owner
    return [op for op in owner._children.values() if op._type == "outTOP"][end._index]
