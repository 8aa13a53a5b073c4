"""ControlNets, LoRAs, hint networks and image adapters, loaded beside the stream: naming one never delays a frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch

from engines.errors import ModelError, first_line

T = TypeVar("T")
_ONE = threading.Lock()
"""diffusers and transformers change how torch makes modules, for all threads, while they load: one at a time."""


class Shelf(Generic[T]):
    """What is loaded, by id. `ask` and `fetch` belong to the frame's thread; the rest is its own thread's."""

    def __init__(self, load: Callable[[str], T], device: torch.device, name: str = "ll-control") -> None:
        """`load` gives what belongs to an id, or raises ModelError with a sentence. `name`: the thread's."""
        self._load, self._device, self._name = load, device, name
        self._change = threading.Condition()
        self._wanted: tuple[str, ...] = ()
        self._done: dict[str, T] = {}
        self._wrong: dict[str, str] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def ask(self, ids: Iterable[str]) -> None:
        """Want these, and no others any more. One that could not be loaded is tried again once it has been unwanted."""
        wanted = tuple(dict.fromkeys(ids))
        if wanted == self._wanted:
            return
        with self._change:
            self._wanted = wanted
            self._done = {name: net for name, net in self._done.items() if name in wanted}
            self._wrong = {name: why for name, why in self._wrong.items() if name in wanted}
            self._change.notify_all()
        if wanted and self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def fetch(self) -> dict[str, T]:
        """Those that are there."""
        with self._change:
            return dict(self._done)

    def settle(self, seconds: float = 120.0) -> bool:
        """Wait until all that is wanted is there or has failed: for a standby, tests and offline work."""
        with self._change:
            return self._change.wait_for(lambda: self._next() is None, seconds)

    def pending(self) -> list[str]:
        """Ids that are on their way. From any thread."""
        with self._change:
            return [name for name in self._wanted if name not in self._done and name not in self._wrong]

    def wrong(self) -> dict[str, str]:
        """Why those that can't be loaded can't, by id. From any thread."""
        with self._change:
            return dict(self._wrong)

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def _next(self) -> str | None:
        return next((name for name in self._wanted if name not in self._done and name not in self._wrong), None)

    def _run(self) -> None:
        while (name := self._wait()) is not None:
            net, why = self._try(name)
            with self._change:
                if name in self._wanted and net is not None:
                    self._done[name] = net
                elif name in self._wanted:
                    self._wrong[name] = why
                self._change.notify_all()
            del net  # while this thread waits, only the shelf holds it

    def _wait(self) -> str | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._next() is not None)
            return None if self._closed else self._next()

    def _try(self, name: str) -> tuple[T | None, str]:
        try:
            if self._device.type != "cuda":
                with _ONE:
                    return self._load(name), ""
            # a stream of its own, so that no frame queues behind the weights
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            with _ONE, torch.cuda.stream(stream):
                net = self._load(name)
                stream.synchronize()
            return net, ""
        except ModelError as error:
            return None, str(error)
        except Exception as error:  # whatever a loader raises, memory included, the show goes on without that one
            return None, f"it can't be loaded: {first_line(error)}"
