"""Pictures that become prompts, encoded beside the stream: the encoder is slow, and no frame waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engines.base import ImageAdapter
from engines.errors import first_line


class Job(NamedTuple):
    """A picture to encode."""

    name: str
    adapter: ImageAdapter
    picture: Tensor
    """uint8 [h, w, 1 | 3 | 4] or fp32 [1, 3, H, W] in [-1, 1], on the device; nobody else writes to it."""
    at: float
    """When it was taken, in seconds."""


class Seen(NamedTuple):
    """And what was read of it."""

    job: Job
    rows: Tensor
    """[2, adapter.size]; see engines.base.ImageAdapter."""


class Looker:
    """A thread with a place for one picture. `ask` and `fetch` belong to the frame's thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._change = threading.Condition()
        self._job: Job | None = None
        self._seen: Seen | None = None
        self._working = self._closed = False
        self._error = ""
        self._made: Any = None
        self._stream: Any = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a picture is waiting or being encoded."""
        with self._change:
            return self._working or self._job is not None

    @property
    def error(self) -> str:
        """Why the last picture could not be encoded; empty if it could. From any thread."""
        return self._error

    def ask(self, job: Job) -> None:
        """Have this encoded, in place of one that is still waiting. Returns at once."""
        with self._change:
            if self._device.type == "cuda":
                self._made = torch.cuda.current_stream(self._device).record_event()
            self._job = job
            self._change.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ll-image", daemon=True)
            self._thread.start()

    def fetch(self) -> Seen | None:
        """What is new since the last call."""
        with self._change:
            seen, self._seen = self._seen, None
            return seen

    def settle(self, seconds: float = 120.0) -> bool:
        """Wait until nothing is left to encode: for tests and offline work."""
        with self._change:
            return self._change.wait_for(lambda: self._job is None and not self._working, seconds)

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        with torch.inference_mode():
            while (job := self._next()) is not None:
                seen, error = self._encode(job)
                with self._change:
                    self._seen, self._error = seen or self._seen, error
                    self._working = False
                    self._change.notify_all()

    def _next(self) -> Job | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._job is not None)
            job, self._job = self._job, None
            self._working = job is not None
            return None if self._closed else job

    def _encode(self, job: Job) -> tuple[Seen | None, str]:
        try:
            with self._aside():
                return Seen(job, job.adapter(as_image(job.picture))), ""
        except Exception as failed:  # whatever an encoder raises, the picture before stays and the show goes on
            return None, f"the picture can't be encoded: {first_line(failed)}"

    @contextmanager
    def _aside(self) -> Iterator[Any]:
        """On CUDA a stream of its own, so that no frame queues behind the encoder; done with when it ends."""
        if self._device.type != "cuda":
            yield
            return
        self._stream = self._stream or torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._stream.wait_event(self._made)
        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()


def as_image(picture: Tensor) -> Tensor:
    """uint8 [h, w, 1 | 3 | 4] or fp32 [1, 3, H, W] in [-1, 1] to fp32 [1, 3, h, w] in 0..1; alpha is dropped."""
    if picture.dtype is not torch.uint8:
        return picture.mul(0.5).add_(0.5).clamp_(0.0, 1.0)
    return (picture[..., :3].permute(2, 0, 1)[None].float() / 255.0).expand(1, 3, -1, -1)
