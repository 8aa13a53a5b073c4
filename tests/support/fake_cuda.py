"""A stand-in for NVIDIA's driver library that forgives nothing: `Process` has the functions of `bridge.cuda.FUNCTIONS`.

Two of them on one `Machine` are two processes. As with the real one: a context belongs to a thread; an upload from
ordinary memory has not reached the card when the call returns; a process can't open what it shared itself; and freeing
what another has open, opening twice, or using what is closed ends in undefined behaviour, which is an error here.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PAGE = 2 << 20
INVALID, NO_CONTEXT = 1, 201
NAMES = {INVALID: b"invalid argument", NO_CONTEXT: b"invalid device context"}


@dataclass
class Allocation:
    owner: Process
    card: int
    size: int
    landed: bytearray
    staged: list[tuple[int, bytes]] = field(default_factory=list)
    handle: bytes = b""


@dataclass
class Machine:
    """Cards by UUID, and all that lies on them. `misuse` is checked after every test."""

    cards: list[str] = field(default_factory=lambda: [f"{n:032x}" for n in (0xA, 0xB)])
    handles: dict[bytes, Allocation] = field(default_factory=dict)
    mappings: dict[int, tuple[Process, Allocation]] = field(default_factory=dict)
    misuse: list[str] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def fail(self, what: str) -> None:
        self.misuse.append(what)
        raise AssertionError(what)


class Function:
    """What ctypes gives for a name: callable, with a result and argument types to be set."""

    def __init__(self, call: Callable[..., int]) -> None:
        self._call = call
        self.restype: Any = None
        self.argtypes: tuple[Any, ...] | None = None

    def __call__(self, *arguments: Any) -> int:
        assert self.restype is ctypes.c_int
        assert self.argtypes is not None
        assert len(self.argtypes) == len(arguments), "ctypes would raise"
        return self._call(*(getattr(a, "_obj", getattr(a, "value", a)) for a in arguments))


class Process:
    """One process's view. `visible`: the machine's cards that it can see, in its own order."""

    def __init__(self, machine: Machine, visible: tuple[int, ...] = (0, 1)) -> None:
        self.machine, self.visible = machine, visible
        self.contexts: dict[int, int] = {}
        self.allocations = 0
        self._ready, self._current = False, threading.local()
        for name in dir(type(self)):
            if name.startswith("_cu"):
                setattr(self, name[1:], Function(getattr(self, name)))

    def end(self) -> None:
        """The process is gone, and the driver takes back what was its own."""
        self.machine.mappings = {at: m for at, m in self.machine.mappings.items() if m[0] is not self}
        self.machine.handles = {h: a for h, a in self.machine.handles.items() if a.owner is not self}

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
        if any(a.card == device and p is self for p, a in self.machine.mappings.values() if a.owner is not self):
            self.machine.fail("a context released with another process's memory open in it")
        self.contexts[device] -= 1
        return 0

    def _cuCtxSetCurrent(self, context: int) -> int:
        if not self.contexts.get(context - 1000):
            self.machine.fail("a context that is not held")
        self._current.card = context - 1000
        return 0

    def _card(self) -> int:
        card: int | None = getattr(self._current, "card", None)
        if card is None or not self.contexts.get(card):
            self.machine.fail("no context on this thread")
        assert card is not None
        return card

    def _cuCtxSynchronize(self) -> int:
        card = self._card()
        for process, allocation in self.machine.mappings.values():
            if process is self and allocation.card == card:
                for at, data in allocation.staged:
                    allocation.landed[at : at + len(data)] = data
                allocation.staged.clear()
        return 0

    def _cuMemAlloc_v2(self, at: Any, size: int) -> int:
        if size < 1:
            return INVALID
        at.value = self._map(Allocation(self, self._card(), size, bytearray(size)))
        self.allocations += 1
        return 0

    def _map(self, allocation: Allocation) -> int:
        at = next(self.machine.numbers) << 32
        self.machine.mappings[at] = self, allocation
        return at

    def _own(self, at: int, opened: bool) -> Allocation:
        process, allocation = self.machine.mappings.get(at, (None, None))
        if process is not self or allocation is None or (allocation.owner is not self) != opened:
            self.machine.fail("not the beginning of memory that this process has this way")
        assert allocation is not None
        return allocation

    def _cuMemFree_v2(self, at: int) -> int:
        allocation = self._own(at, opened=False)
        if any(a is allocation and p is not self for p, a in self.machine.mappings.values()):
            self.machine.fail("freed while another process has it open")
        self.machine.handles.pop(allocation.handle, None)
        del self.machine.mappings[at]
        return 0

    def _find(self, at: int, size: int) -> tuple[Allocation, int]:
        for start, (process, allocation) in self.machine.mappings.items():
            if process is self and start <= at < start + (1 << 32):
                if at - start + size > allocation.size:
                    self.machine.fail("beyond the end of the memory")
                if allocation.card != self._card():
                    self.machine.fail("memory of one card used in a context of another")
                return allocation, at - start
        self.machine.fail("memory that is not there, or not any more")
        raise AssertionError

    def _cuMemcpyHtoD_v2(self, to: int, source: int, size: int) -> int:
        allocation, at = self._find(to, size)
        allocation.staged.append((at, ctypes.string_at(source, size)))
        return 0

    def _cuMemcpyDtoH_v2(self, to: int, source: int, size: int) -> int:
        allocation, at = self._find(source, size)
        if any(start < at + size and at < start + len(data) for start, data in allocation.staged):
            self.machine.fail("read before the upload was waited for")
        ctypes.memmove(to, bytes(allocation.landed[at : at + size]), size)
        return 0

    def _cuIpcGetMemHandle(self, handle: Any, at: int) -> int:
        allocation = self._own(at, opened=False)
        self._card()
        if allocation.size % PAGE:
            self.machine.fail("shared with whatever lies in the same two MiB")
        allocation.handle = next(self.machine.numbers).to_bytes(64, "big")
        self.machine.handles[allocation.handle] = allocation
        handle.reserved[:] = allocation.handle
        return 0

    def _cuIpcOpenMemHandle_v2(self, at: Any, handle: Any, flags: int) -> int:
        allocation = self.machine.handles.get(bytes(handle.reserved))
        if allocation is None or flags != 1:
            return INVALID
        if allocation.owner is self:
            return NO_CONTEXT
        if allocation.card != self._card():
            self.machine.fail("opened on another card than it lies on")
        if any(p is self and a is allocation for p, a in self.machine.mappings.values()):
            self.machine.fail("opened twice")
        at.value = self._map(allocation)
        return 0

    def _cuIpcCloseMemHandle(self, at: int) -> int:
        self._own(at, opened=True)
        self._card()
        del self.machine.mappings[at]
        return 0
