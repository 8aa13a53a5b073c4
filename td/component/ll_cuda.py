"""NVIDIA's driver through ctypes, in TouchDesigner's own context, on TouchDesigner's thread alone.

Names and rules are those of NVIDIA's "CUDA Driver API"; the library comes with the driver, nothing is installed. Every
call stands inside `with cuda:`, which makes the context current and puts back the one that was.
"""

import ctypes
import sys
import types
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

PAGE, HANDLE, LAZY_PEER = 2 << 20, 64, 1
NON_BLOCKING, EVENT, SHARED_EVENT = 1, 2, 6
ORDINAL, NOT_READY = 9, 600
SHELF = "livelatent_cuda_1"
PLACES = 4


class CudaError(Exception):
    """A sentence for the user."""


class Handle(ctypes.Structure):
    """CUipcMemHandle and CUipcEventHandle, which are alike; passed by value."""

    _fields_ = (("reserved", ctypes.c_ubyte * HANDLE),)


class Uuid(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_ubyte * 16),)


_OUT = c_void_p
FUNCTIONS = {
    "cuInit": (c_uint,),
    "cuGetErrorString": (c_int, _OUT),
    "cuDeviceGet": (_OUT, c_int),
    "cuDeviceGetUuid_v2": (_OUT, c_int),
    "cuDevicePrimaryCtxRetain": (_OUT, c_int),
    "cuCtxGetCurrent": (_OUT,),
    "cuCtxGetDevice": (_OUT,),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (_OUT,),
    "cuPointerGetAttribute": (_OUT, c_int, c_uint64),
    "cuMemGetAddressRange_v2": (_OUT, _OUT, c_uint64),
    "cuMemAlloc_v2": (_OUT, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoD_v2": (c_uint64, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuMemcpyDtoDAsync_v2": (c_uint64, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (_OUT, c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuEventCreate": (_OUT, c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventQuery": (c_void_p,),
    "cuEventDestroy_v2": (c_void_p,),
    "cuIpcGetMemHandle": (_OUT, c_uint64),
    "cuIpcOpenMemHandle_v2": (_OUT, Handle, c_uint),
    "cuIpcCloseMemHandle": (c_uint64,),
    "cuIpcGetEventHandle": (_OUT, c_void_p),
}


class Cuda:
    """The driver, and the context that a pointer of TouchDesigner's belongs to. CudaError."""

    def __init__(self):
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        try:
            self._dll = ctypes.CDLL(name)
            for function, types_ in FUNCTIONS.items():
                found = getattr(self._dll, function)
                found.restype, found.argtypes = c_int, types_
        except OSError:
            raise CudaError("there is no NVIDIA driver here") from None
        except AttributeError as error:
            raise CudaError(f"the NVIDIA driver is too old: {error}") from None
        self._context, self.uuid = c_void_p(), ""
        self.call("cuInit", 0)

    def settle(self, pointer):
        """Work where this pointer's memory lies: in the context that is current, if that is on this card."""
        number, device, current = c_int(), c_int(), c_int(-1)
        self.call("cuPointerGetAttribute", byref(number), ORDINAL, pointer)
        self.call("cuDeviceGet", byref(device), number.value)
        self.call("cuCtxGetCurrent", byref(self._context))
        if self._context:
            self.call("cuCtxGetDevice", byref(current))
        if current.value != device.value:
            kept = shelf().contexts
            if device.value not in kept:
                kept[device.value] = self.make("cuDevicePrimaryCtxRetain", c_void_p, device.value)
            self._context = c_void_p(kept[device.value])
        uuid = Uuid()
        self.call("cuDeviceGetUuid_v2", byref(uuid), device.value)
        self.uuid = bytes(uuid.bytes).hex()

    def call(self, name, *arguments):
        result = getattr(self._dll, name)(*arguments)
        if result:
            text = c_char_p()
            self._dll.cuGetErrorString(result, byref(text))
            raise CudaError(f"CUDA: {(text.value or b'').decode() or 'unknown error'} ({name} gave {result})")

    def make(self, name, kind, *arguments):
        """What the call writes into its first argument."""
        out = kind()
        self.call(name, byref(out), *arguments)
        return out.value

    def __enter__(self):
        self.call("cuCtxPushCurrent_v2", self._context)
        return self

    def __exit__(self, *_):
        self.call("cuCtxPopCurrent_v2", byref(c_void_p()))

    def copy(self, to, source, size, stream):
        """Have it copied on the card; nobody waits."""
        self.call("cuMemcpyDtoDAsync_v2", to, source, size, stream)

    def done(self, event):
        """Whether all is done that stood before the event when it was recorded; true for one that never was."""
        result = self._dll.cuEventQuery(event)
        if result not in (0, NOT_READY):
            self.call("cuEventQuery", event)
        return result == 0

    def share(self, name, what):
        handle = Handle()
        self.call(name, byref(handle), what)
        return bytes(handle.reserved)

    def open(self, handle):
        """(address, bytes) of another process's allocation. Two components may have the same one open: once in all."""
        opened = shelf().opened
        if handle not in opened:
            start, size = c_uint64(), c_size_t()
            at = self.make("cuIpcOpenMemHandle_v2", c_uint64, Handle.from_buffer_copy(handle), LAZY_PEER)
            try:
                self.call("cuMemGetAddressRange_v2", byref(start), byref(size), at)
            except CudaError:
                self.call("cuIpcCloseMemHandle", at)
                raise
            opened[handle] = [at, size.value, 0]
        opened[handle][2] += 1
        return opened[handle][0], opened[handle][1]

    def shut(self, handle):
        opened = shelf().opened
        opened[handle][2] -= 1
        if opened[handle][2] <= 0:
            self.call("cuIpcCloseMemHandle", opened.pop(handle)[0])

    def borrow(self, size):
        """Four shared places of at least so many bytes, with an event each: from the shelf, or new."""
        fit = [block for block in shelf().blocks if block.uuid == self.uuid and block.place >= size]
        if fit:
            block = min(fit, key=lambda block: block.place)
            shelf().blocks.remove(block)
            return block
        block = types.SimpleNamespace(uuid=self.uuid, place=max(1 << 20, 1 << (size - 1).bit_length()))
        whole = -(-block.place * PLACES // PAGE) * PAGE
        block.start = self.make("cuMemAlloc_v2", c_uint64, whole)
        try:
            block.handle = self.share("cuIpcGetMemHandle", block.start)
        except CudaError:
            self.call("cuMemFree_v2", block.start)
            raise
        block.events = [self.make("cuEventCreate", c_void_p, SHARED_EVENT) for _ in range(PLACES)]
        block.tokens = [self.share("cuIpcGetEventHandle", event) for event in block.events]
        return block

    @staticmethod
    def give_back(block):
        """When nobody here copies into it any more."""
        shelf().blocks.append(block)


def shelf():
    """What stays until TouchDesigner ends, whatever becomes of the component: `blocks` to be used again, for to free
    what another process may have open is undefined; `opened` of others, for to open something twice is an error; and
    the `contexts` in which they lie.
    """
    found = sys.modules.get(SHELF)
    if found is None:
        found = sys.modules[SHELF] = types.ModuleType(SHELF)
        found.blocks, found.opened, found.contexts = [], {}, {}
    return found
