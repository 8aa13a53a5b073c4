"""A stand-in for NVIDIA's driver library that forgives nothing: `Process` has the functions that either end here calls.

Several on one `Machine` are several processes, whether they live in one or not. As with the real one: a context
belongs to a thread; what was asked for is done later, and a process that does not wait sees old bytes; a process can't
open what it shared itself; and freeing what another has open, opening twice, or using what is closed ends in undefined
behaviour, which is an error here.
"""

from __future__ import annotations

from typing import Any

from support.fake_context import INVALID, NO_CONTEXT, NOT_READY, PAGE, Contexts
from support.fake_gpu import Allocation, Event

NON_BLOCKING = 1
DISABLE_TIMING, INTERPROCESS = 2, 4


class Process(Contexts):
    """One process's view of a machine."""

    # Streams and events

    def _stream(self, stream: int) -> None:
        self.card()
        if stream not in self.streams:
            self.machine.fail("a stream that is not there, or not any more")

    def _cuStreamCreate(self, stream: Any, flags: int) -> int:
        self.card()
        if flags != NON_BLOCKING:
            self.machine.fail("a stream that waits for everything else of the process")
        stream.value = next(self._numbers)
        self.streams.add(stream.value)
        return 0

    def _cuStreamSynchronize(self, stream: int) -> int:
        self._stream(stream)
        self.queue.drain()
        return 0

    def _cuStreamDestroy_v2(self, stream: int) -> int:
        self._stream(stream)
        self.streams.remove(stream)
        return 0

    def _cuEventCreate(self, event: Any, flags: int) -> int:
        self.card()
        if flags & INTERPROCESS and not flags & DISABLE_TIMING:
            return INVALID
        event.value = self._keep(Event(self.machine))
        return 0

    def _keep(self, event: Event) -> int:
        number = next(self._numbers)
        self.events[number] = event
        return number

    def _event(self, number: int) -> Event:
        self.card()
        if number not in self.events:
            self.machine.fail("an event that is not there, or not any more")
        return self.events[number]

    def _cuEventRecord(self, number: int, stream: int) -> int:
        self._stream(stream)
        event = self._event(number)
        count = event.record()
        self.queue.later(lambda: event.happen(count))
        return 0

    def _cuEventQuery(self, number: int) -> int:
        return 0 if self._event(number).happened else NOT_READY

    def _cuEventDestroy_v2(self, number: int) -> int:
        self._event(number).destroy()
        del self.events[number]
        return 0

    # Between processes

    def _cuIpcGetMemHandle(self, handle: Any, at: int) -> int:
        allocation = self._own(at, opened=False)
        self.card()
        if allocation.size % PAGE:
            self.machine.fail("shared with whatever lies in the same two MiB")
        handle.reserved[:] = bytes.fromhex(allocation.mark).ljust(64, b"\1")
        return 0

    def _cuIpcOpenMemHandle_v2(self, at: Any, handle: Any, flags: int) -> int:
        allocation = Allocation.find(self.machine, bytes(handle.reserved)[:8].hex())
        if allocation is None or flags != 1:
            return INVALID
        if allocation.owner == self.token:
            return NO_CONTEXT
        if allocation.card != self.card():
            self.machine.fail("opened on another card than it lies on")
        mine = self.machine.folder / f"{allocation.mark}.open.{self.token}"
        if mine.exists():
            self.machine.fail("opened twice")
        mine.touch()
        at.value = self.map(allocation)
        return 0

    def _cuIpcCloseMemHandle(self, at: int) -> int:
        allocation = self._own(at, opened=True)
        self.card()
        allocation.gone = True
        (self.machine.folder / f"{allocation.mark}.open.{self.token}").unlink()
        del self.mappings[at]
        return 0

    def _cuIpcGetEventHandle(self, handle: Any, number: int) -> int:
        event = self._event(number)
        if not event.owned:
            return INVALID
        handle.reserved[:] = bytes.fromhex(event.mark).ljust(64, b"\2")
        return 0

    def _cuIpcOpenEventHandle(self, event: Any, handle: Any) -> int:
        self.card()
        mark = bytes(handle.reserved)[:8].hex()
        if any(known.owned and known.mark == mark for known in self.events.values()):
            return NO_CONTEXT
        try:
            event.value = self._keep(Event(self.machine, mark))
        except FileNotFoundError:
            return INVALID
        return 0
