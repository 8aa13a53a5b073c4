"""Of the stand-in for NVIDIA's driver library (support.fake_cuda): processes, contexts, and memory."""

from __future__ import annotations

import ctypes
import itertools
import secrets
import threading
from collections.abc import Callable
from typing import Any

from support.fake_gpu import Allocation, Card, Event, Machine

PAGE = 2 << 20
INVALID, NO_CONTEXT, NOT_READY = 1, 201, 600
NAMES = {
    INVALID: b"invalid argument",
    NO_CONTEXT: b"invalid device context",
    2: b"out of memory",
    NOT_READY: b"not ready",
}
STRIDE = 1 << 32
ORDINAL = 9


class Function:
    """What ctypes gives for a name: callable, with a result and argument types to be set."""

    def __init__(self, name: str, process: Contexts, call: Callable[..., int]) -> None:
        self._name, self._process, self._call = name, process, call
        self.restype: Any = None
        self.argtypes: tuple[Any, ...] | None = None

    def __call__(self, *arguments: Any) -> int:
        assert self.restype is ctypes.c_int
        assert self.argtypes is not None
        assert len(self.argtypes) == len(arguments), "ctypes would raise"
        refused = self._process.refuses.get(self._name)
        if refused:
            return refused
        return self._call(*(getattr(a, "_obj", getattr(a, "value", a)) for a in arguments))


class Contexts:
    """One process's view. `visible`: the machine's cards that it can see, in its own order."""

    def __init__(self, machine: Machine, visible: tuple[int, ...] = (0, 1), lag_s: float = 0.0005) -> None:
        self.machine, self.visible = machine, visible
        self.token, self._life = machine.birth()
        self.contexts: dict[int, int] = {}
        self.allocations = 0
        self.refuses: dict[str, int] = {}
        """Functions that fail from now on, and how."""
        self.queue = Card(lag_s)
        self.mappings: dict[int, Allocation] = {}
        self.events: dict[int, Event] = {}
        self.streams: set[int] = set()
        self._ready, self._thread = False, threading.local()
        # Addresses of two processes differ, so that one that strays into another is noticed.
        self._numbers = itertools.count((secrets.randbits(14) | 1) << 17)
        for name in dir(type(self)):
            if name.startswith("_cu"):
                setattr(self, name[1:], Function(name[1:], self, getattr(self, name)))

    def end(self) -> None:
        """The process is gone, and the driver takes back what was its own."""
        self.queue.stop()
        self._life.close()

    # Contexts

    def _stack(self) -> list[int]:
        if not hasattr(self._thread, "stack"):
            self._thread.stack = []
        stack: list[int] = self._thread.stack
        return stack

    @property
    def current(self) -> int | None:
        """The card whose context is current on this thread."""
        return self._stack()[-1] if self._stack() else None

    def card(self) -> int:
        card = self.current
        if card is None or not self.contexts.get(card):
            self.machine.fail("no context on this thread")
        assert card is not None
        return card

    def _cuInit(self, flags: int) -> int:
        self._ready = flags == 0
        return 0

    def _cuGetErrorString(self, code: int, text: Any) -> int:
        text.value = NAMES[code]
        return 0

    def _cuDeviceGetCount(self, count: Any) -> int:
        if not self._ready:
            self.machine.fail("a call before cuInit")
        count.value = len(self.visible)
        return 0

    def _cuDeviceGet(self, device: Any, number: int) -> int:
        device.value = self.visible[number]
        return 0

    def _cuDeviceGetUuid_v2(self, uuid: Any, device: int) -> int:
        uuid.bytes[:] = bytes.fromhex(self.machine.cards[device])
        return 0

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        self.contexts[device] = self.contexts.get(device, 0) + 1
        context.value = 1000 + device
        return 0

    def _cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:
        if not self.contexts.get(device):
            self.machine.fail("a context released once too often")
        if self.contexts[device] == 1 and any(
            a.card == device and a.owner != self.token for a in self.mappings.values()
        ):
            self.machine.fail("a context released with another process's memory open in it")
        self.contexts[device] -= 1
        return 0

    def _cuCtxSetCurrent(self, context: int) -> int:
        if not self.contexts.get(context - 1000):
            self.machine.fail("a context that is not held")
        self._stack()[-1:] = [context - 1000]
        return 0

    def _cuCtxGetCurrent(self, context: Any) -> int:
        context.value = None if self.current is None else 1000 + self.current
        return 0

    def _cuCtxGetDevice(self, device: Any) -> int:
        device.value = self.card()
        return 0

    def _cuCtxPushCurrent_v2(self, context: int) -> int:
        if not self.contexts.get(context - 1000):
            self.machine.fail("a context that is not held")
        self._stack().append(context - 1000)
        return 0

    def _cuCtxPopCurrent_v2(self, context: Any) -> int:
        context.value = 1000 + self.card()
        self._stack().pop()
        return 0

    def _cuCtxSynchronize(self) -> int:
        self.card()
        self.queue.drain()
        return 0

    # Memory

    def _cuMemAlloc_v2(self, at: Any, size: int) -> int:
        if size < 1:
            return INVALID
        at.value = self.map(Allocation.make(self.machine, self.token, self.card(), size))
        self.allocations += 1
        return 0

    def map(self, allocation: Allocation) -> int:
        at = next(self._numbers) * STRIDE
        self.mappings[at] = allocation
        return at

    def _own(self, at: int, opened: bool) -> Allocation:
        allocation = self.mappings.get(at)
        if allocation is None or (allocation.owner != self.token) != opened:
            self.machine.fail("not the beginning of memory that this process has this way")
        assert allocation is not None
        return allocation

    def _cuMemFree_v2(self, at: int) -> int:
        allocation = self._own(at, opened=False)
        if self.machine.openers(allocation.mark):
            self.machine.fail("freed while another process has it open")
        self.queue.drain()
        allocation.free(self.machine)
        del self.mappings[at]
        return 0

    def find(self, at: int, size: int) -> tuple[Allocation, int]:
        start = at // STRIDE * STRIDE
        allocation = self.mappings.get(start)
        if allocation is None:
            self.machine.fail("memory that is not there, or not any more")
        assert allocation is not None
        if at - start + size > allocation.size:
            self.machine.fail("beyond the end of the memory")
        if allocation.card != self.card():
            self.machine.fail("memory of one card used in a context of another")
        return allocation, at - start

    def _still(self, *allocations: Allocation) -> None:
        if any(allocation.gone for allocation in allocations):
            self.machine.fail("freed or closed before the copy was done")

    def put(self, allocation: Allocation, at: int, data: bytes) -> None:
        """Queue a write."""

        def work() -> None:
            self._still(allocation)
            allocation.bytes[at : at + len(data)] = data

        self.queue.later(work)

    def _cuMemcpyHtoD_v2(self, to: int, source: int, size: int) -> int:
        # From ordinary memory the call returns when the driver has its own copy.
        self.put(*self.find(to, size), ctypes.string_at(source, size))
        return 0

    def _cuMemcpyDtoH_v2(self, to: int, source: int, size: int) -> int:
        allocation, at = self.find(source, size)
        if allocation.owner == self.token:
            self.queue.drain()
        ctypes.memmove(to, allocation.bytes[at : at + size], size)
        return 0

    def _cuMemcpyDtoDAsync_v2(self, to: int, source: int, size: int, stream: int) -> int:
        self._stream(stream)
        (target, at), (origin, start) = self.find(to, size), self.find(source, size)

        def work() -> None:
            self._still(target, origin)
            target.bytes[at : at + size] = origin.bytes[start : start + size]

        self.queue.later(work)
        return 0

    def _cuMemGetAddressRange_v2(self, base: Any, size: Any, at: int) -> int:
        start = at // STRIDE * STRIDE
        base.value, size.value = start, self.find(start, 1)[0].size
        return 0

    def _cuPointerGetAttribute(self, data: Any, attribute: int, at: int) -> int:
        allocation = self.mappings.get(at)
        if allocation is None or attribute != ORDINAL:
            return INVALID
        data.value = self.visible.index(allocation.card)
        return 0
