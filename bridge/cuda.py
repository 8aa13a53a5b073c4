"""The NVIDIA driver through ctypes, as far as pictures in the memory of a card need it that two processes share.

`libcuda` comes with the driver: no toolkit, no torch and no Python package is needed. The names and rules are those of
NVIDIA's "CUDA Driver API", chapters "Memory Management" and "Unified Addressing" (cuIpc...).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from typing import Any

from bridge.errors import DriverError, DriverMissing
from bridge.frame import Pixels

HANDLE_BYTES = 64
PAGE = 2 << 20
"""Smaller allocations may lie in one block with others, and a handle opens the whole block to the other process."""
_LAZY_PEER = 1
_OUT = c_void_p
"""For what a call writes: `byref` of it."""


class Handle(ctypes.Structure):
    """CUipcMemHandle and CUipcEventHandle, which are alike. Passed by value."""

    _fields_ = (("reserved", ctypes.c_ubyte * HANDLE_BYTES),)


class Uuid(ctypes.Structure):
    """CUuuid."""

    _fields_ = (("bytes", ctypes.c_ubyte * 16),)


FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorString": (c_int, _OUT),
    "cuDeviceGetCount": (_OUT,),
    "cuDeviceGet": (_OUT, c_int),
    "cuDeviceGetUuid_v2": (_OUT, c_int),
    "cuDevicePrimaryCtxRetain": (_OUT, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuMemAlloc_v2": (_OUT, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoD_v2": (c_uint64, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuIpcGetMemHandle": (_OUT, c_uint64),
    "cuIpcOpenMemHandle_v2": (_OUT, Handle, c_uint),
    "cuIpcCloseMemHandle": (c_uint64,),
    "cuIpcOpenEventHandle": (_OUT, Handle),
    "cuEventQuery": (c_void_p,),
    "cuEventDestroy_v2": (c_void_p,),
}
NOT_READY = 600


class Driver:
    """The loaded library."""

    def __init__(self, dll: Any) -> None:
        """`dll` has the functions of FUNCTIONS. DriverError when it lacks one, or has no card."""
        self._dll = dll
        try:
            for name, types in FUNCTIONS.items():
                function = getattr(dll, name)
                function.restype, function.argtypes = c_int, types
        except AttributeError as error:
            raise DriverError(f"the NVIDIA driver is too old for cuda-ipc: {error}") from error
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> None:
        """DriverError, in the driver's words, for anything but success."""
        self._judge(name, getattr(self._dll, name)(*arguments))

    def ask(self, name: str, *arguments: Any) -> bool:
        """Whether it is done: False for not yet, DriverError for anything else but success."""
        result = getattr(self._dll, name)(*arguments)
        if result != NOT_READY:
            self._judge(name, result)
        return bool(result != NOT_READY)

    def _judge(self, name: str, result: int) -> None:
        if result:
            text = c_char_p()
            self._dll.cuGetErrorString(result, ctypes.byref(text))
            raise DriverError(f"CUDA: {(text.value or b'').decode() or 'unknown error'} ({name} gave {result})")

    def card(self, uuid: str = "") -> Card:
        """The card whose UUID (32 hex digits) begins so, or the first. DriverError when it is not there."""
        count = c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        for number in range(count.value):
            device, found = c_int(), Uuid()
            self.call("cuDeviceGet", ctypes.byref(device), number)
            self.call("cuDeviceGetUuid_v2", ctypes.byref(found), device)
            if bytes(found.bytes).hex().startswith(uuid):
                return Card(self, device.value, bytes(found.bytes).hex())
        raise DriverError(f"the graphics card {uuid} is not visible here" if uuid else "there is no NVIDIA card here")


class Card:
    """One card, by its primary context, which torch in the same process would use too. Any thread, one at a time."""

    def __init__(self, driver: Driver, device: int, uuid: str) -> None:
        self.uuid = uuid
        self._driver, self._device, self._context = driver, device, c_void_p()
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def _call(self, name: str, *arguments: Any) -> None:
        # A context belongs to a thread, and the threads here change with every reopening.
        self._driver.call("cuCtxSetCurrent", self._context)
        self._driver.call(name, *arguments)

    def alloc(self, size: int) -> int:
        """The address of so many bytes, in whole pages of two MiB."""
        at = c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(at), -(-size // PAGE) * PAGE)
        return at.value

    def free(self, at: int) -> None:
        """Only of memory that no other process has open: the driver leaves the rest undefined."""
        self._call("cuMemFree_v2", at)

    def upload(self, pixels: Pixels, at: int) -> None:
        """Copy C-contiguous pixels to the card; they are there, for other processes too, when it returns."""
        self._call("cuMemcpyHtoD_v2", at, pixels.ctypes.data, pixels.nbytes)
        # From ordinary memory the call returns when the driver has its own copy, before that has reached the card.
        self._driver.call("cuCtxSynchronize")

    def download(self, at: int, pixels: Pixels) -> None:
        """Copy from the card into C-contiguous pixels."""
        self._call("cuMemcpyDtoH_v2", pixels.ctypes.data, at, pixels.nbytes)

    def share(self, at: int) -> bytes:
        """What another process opens this allocation by."""
        handle = Handle()
        self._call("cuIpcGetMemHandle", ctypes.byref(handle), at)
        return bytes(handle.reserved)

    def open(self, handle: bytes) -> int:
        """Map another process's allocation; once per handle, until `shut`."""
        at = c_uint64()
        self._call("cuIpcOpenMemHandle_v2", ctypes.byref(at), Handle.from_buffer_copy(handle), _LAZY_PEER)
        return at.value

    def shut(self, at: int) -> None:
        self._call("cuIpcCloseMemHandle", at)

    def listen(self, handle: bytes) -> int:
        """Another process's event, until `forget`."""
        event = c_void_p()
        self._call("cuIpcOpenEventHandle", ctypes.byref(event), Handle.from_buffer_copy(handle))
        return event.value or 0

    def happened(self, event: int) -> bool:
        """Whether all is done that its owner wanted to be told of by it."""
        self._driver.call("cuCtxSetCurrent", self._context)
        return self._driver.ask("cuEventQuery", event)

    def forget(self, event: int) -> None:
        self._call("cuEventDestroy_v2", event)

    def close(self) -> None:
        """Let go of the context; what was allocated in it may go with it."""
        context, self._context = self._context, c_void_p()
        if context:
            self._driver.call("cuDevicePrimaryCtxRelease_v2", self._device)


@cache
def driver() -> Driver:
    """The one of this process. DriverMissing without an NVIDIA driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return Driver(ctypes.CDLL(name))
    except OSError as error:
        raise DriverMissing(f"cuda-ipc needs an NVIDIA card and its driver ({name} is not here)") from error
