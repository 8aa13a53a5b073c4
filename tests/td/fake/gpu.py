"""What TouchDesigner does with an NVIDIA card: textures as CUDA memory, and CUDA memory as textures.

Over a stand-in for the driver (support.fake_cuda.Process), in the primary context of the card that it draws on, as the
CUDA runtime has it. Textures have their bottom row first; of four channels with 8 bits, blue comes first.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from td.fake.core import tdError

BLUE_FIRST = [2, 1, 0, 3]


class CUDAMemoryShape:
    """Plain values, that anyone may make and set."""

    __slots__ = ("dataType", "height", "numComps", "width")

    def __init__(self) -> None:
        self.width = self.height = self.numComps = 0
        self.dataType: Any = np.uint8

    def _bytes(self) -> int:
        return int(self.width * self.height * self.numComps * np.dtype(self.dataType).itemsize)


class CUDAMemory:
    """Memory of the card; it is freed when the last one forgets it, on TouchDesigner's thread."""

    __slots__ = ("_gpu", "ptr", "shape", "size")

    def __init__(self, gpu: Gpu, ptr: int, shape: CUDAMemoryShape) -> None:
        self._gpu, self.ptr, self.size, self.shape = gpu, ptr, shape._bytes(), shape

    def __del__(self) -> None:
        self._gpu.free(self.ptr)


class Gpu:
    """TouchDesigner's use of the driver."""

    def __init__(self, world: Any, driver: Any, device: int = 0) -> None:
        self._world, self._driver, self._device = world, driver, device
        self._thread = threading.get_ident()
        driver._cuInit(0)
        driver._cuDevicePrimaryCtxRetain(ctypes.c_void_p(), device)
        self.lent = 0
        """Textures that are out as memory."""

    def close(self) -> None:
        self.drain()
        self._driver._cuDevicePrimaryCtxRelease_v2(self._device)

    def drain(self) -> None:
        self._driver.queue.drain()

    def _enter(self) -> None:
        """TouchDesigner makes its context current, and leaves it so: whoever changes that breaks its next call."""
        if threading.get_ident() != self._thread:
            self._driver.machine.fail("TouchDesigner's CUDA on a thread that is not its own")
        if self._driver.current not in (None, self._device):
            self._driver.machine.fail("another context was left current on TouchDesigner's thread")
        self._driver._cuCtxSetCurrent(1000 + self._device)

    def lend(self, pixels: np.ndarray, form: str, stream: Any) -> CUDAMemory:
        self._enter()
        if stream is not None:
            self._driver._stream(stream)
        shape = CUDAMemoryShape()
        shape.height, shape.width, shape.numComps = *pixels.shape[:2], 1 if form.startswith("mono") else 4
        shape.dataType = np.float32 if form == "rgba32float" else np.uint8
        data = pixels if form == "rgba32float" else np.rint(pixels * 255).astype(np.uint8)[..., BLUE_FIRST]
        at = ctypes.c_uint64()
        self._driver._cuMemAlloc_v2(at, shape._bytes())
        self._driver.allocations -= 1  # not the component's
        self._driver.put(*self._driver.find(at.value, 1), data[..., : shape.numComps].tobytes())
        if stream is None:
            self.drain()
        self.lent += 1
        return CUDAMemory(self, at.value, shape)

    def free(self, at: int) -> None:
        if threading.get_ident() != self._thread:
            self._driver.machine.fail("CUDAMemory was let go of on a thread that is not TouchDesigner's")
        self.lent -= 1
        allocation = self._driver.mappings.pop(at)
        allocation.free(self._driver.machine)

    def take(
        self, at: int, size: int, shape: CUDAMemoryShape, stream: Any, paint: Callable[[np.ndarray], None]
    ) -> None:
        self._enter()
        if stream is not None:
            self._driver._stream(stream)
        if shape.numComps not in (1, 2, 4) or size != shape._bytes():
            raise tdError("copyCUDAMemory: the shape does not go with the size")
        allocation, start = self._driver.find(at, size)

        def work() -> None:
            self._driver._still(allocation)
            flat = np.frombuffer(allocation.bytes[start : start + size], shape.dataType)
            found = flat.reshape(shape.height, shape.width, shape.numComps)
            if shape.dataType == np.uint8:
                found = (found[..., BLUE_FIRST] if shape.numComps == 4 else found) / np.float32(255)
            floats = np.ones((shape.height, shape.width, 4), np.float32)
            floats[..., : shape.numComps] = found
            paint(floats)

        self._driver.queue.later(work)
        if stream is None:
            self.drain()
