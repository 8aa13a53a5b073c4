"""Streams, events and recorded graphs, as far as a frame needs them: a card's own, or a strict emulation of it.

A stream is a queue of work on the device. Two streams run beside each other but for what their events order. A graph is
work that was recorded once and is played again over the same addresses.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Event(Protocol):
    """A place in a stream's work."""

    def wait(self) -> None:
        """The host waits until the work before it is done."""
        ...

    def since(self, earlier: Any, /) -> float:
        """Milliseconds from another event to this one, both done and made with `timed`."""
        ...


class Stream(Protocol):
    """A queue of work."""

    def mark(self, timed: bool = False) -> Event:
        """An event after all that has been queued here so far."""
        ...

    def follow(self, event: Any, /) -> None:
        """What is queued here from now on begins after `event`. The host does not wait."""
        ...


class Graph(Protocol):
    """Work that was recorded, in this order of calls: `record` once, then `play` as often as wanted."""

    def record(self) -> AbstractContextManager[None]:
        """What is queued inside, on the stream of `Machine.on`, is recorded and not done. Raises RuntimeError."""
        ...

    def play(self) -> None:
        """Queue it on the stream of `Machine.on`."""
        ...


class Machine(Protocol):
    """One device's streams and graphs. Another thread may record, on streams of its own, while the frame's plays."""

    def stream(self, first: bool = False) -> Stream:
        """`first`: for a frame's own work, which comes before what goes on beside it, and may be recorded."""
        ...

    def others(self) -> Stream:
        """What threads that know nothing of streams use."""
        ...

    def here(self) -> Stream:
        """The stream of the innermost `on`."""
        ...

    def on(self, stream: Any, /) -> AbstractContextManager[None]:
        """Work that is queued inside goes to `stream`."""
        ...

    def rehearse(self, stream: Any, /) -> AbstractContextManager[None]:
        """As `on`, for work that is done for what it leaves behind in libraries, and gives nothing that is used: what
        it reads others may be writing, and it writes to memory of its own."""
        ...

    def pool(self) -> object:
        """Memory that graphs share: those of one pool are never played beside each other."""
        ...

    def graph(self, pool: Any, /) -> Graph: ...

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Zeros on the host that the device reads and writes by itself."""
        ...

    def pin(self, at: int, size: int) -> Tensor:
        """Host memory that was not made here, whole pages from address `at`: uint8 [size] that the device reads and
        writes by itself, until `unpin`. Raises RuntimeError, a sentence, where the system does not allow it."""
        ...

    def unpin(self, tensor: Tensor, /) -> None:
        """Before that memory goes, and when the device is done with it. The tensor is not used any more."""
        ...

    def claim(self, tensor: Tensor, /) -> None:
        """Before the host reads or writes what `host` or `pin` gave: the emulation sees whether the device is done."""
        ...
