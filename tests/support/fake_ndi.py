"""A stand-in for bridge.ndi.Library that does not forgive misuse: one thread a handle, nothing after close."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from bridge.frame import Pixels
from bridge.ndi import Announced, Picture


class FakeNdi:
    """`there` is the list of senders; `pictures` what a receiver captures next; `live` whether it is connected."""

    def __init__(self, *there: Announced) -> None:
        self.there = list(there)
        self.own: set[str] = set()
        self.pictures: deque[Picture | ValueError] = deque()
        self.live = True
        self.hang = threading.Event()
        """What closing a receiver waits for."""
        self.hang.set()
        self.open_handles: list[Handle] = []
        self.connections: list[Announced] = []
        self.sent: list[tuple[Pixels, tuple[int, int], str]] = []
        self.watchers = 1
        self.misuse: list[str] = []

    def finder(self, ips: Iterable[str] = (), groups: str = "") -> FakeFinder:
        return FakeFinder(self)

    def receiver(self, sender: Announced) -> FakeReceiver:
        self.connections.append(sender)
        return FakeReceiver(self)

    def sender(self, name: str, groups: str = "") -> FakeSender:
        return FakeSender(self, name)


class Handle:
    def __init__(self, ndi: FakeNdi) -> None:
        self.ndi, self.closed, self._thread = ndi, False, threading.get_ident()
        ndi.open_handles.append(self)

    def used(self) -> None:
        if self.closed or threading.get_ident() != self._thread:
            self.ndi.misuse.append(f"{type(self).__name__} used after its end, or from another thread")

    def close(self) -> None:
        self.used()
        self.closed = True
        self.ndi.open_handles.remove(self)


class FakeFinder(Handle):
    def senders(self, wait_s: float = 0.0) -> list[Announced]:
        self.used()
        time.sleep(min(wait_s, 0.01))
        return list(self.ndi.there)


class FakeReceiver(Handle):
    @property
    def connected(self) -> bool:
        self.used()
        return self.ndi.live

    def capture(self, timeout_s: float) -> Picture | None:
        self.used()
        if not self.ndi.pictures:
            time.sleep(min(timeout_s, 0.01))
            return None
        picture = self.ndi.pictures.popleft()
        if isinstance(picture, ValueError):
            raise picture
        return picture

    def close(self) -> None:
        self.ndi.hang.wait(30)
        super().close()


class FakeSender(Handle):
    def __init__(self, ndi: FakeNdi, name: str) -> None:
        super().__init__(ndi)
        self.name = f"HERE ({name})"

    @property
    def receivers(self) -> int:
        self.used()
        return self.ndi.watchers

    def send(self, pixels: Pixels, rate: tuple[int, int], metadata: str = "") -> None:
        self.used()
        self.ndi.sent.append((pixels, rate, metadata))
