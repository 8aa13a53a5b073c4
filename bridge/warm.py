"""A worker's stream, built and warmed up."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np

from bridge.channel import Load
from bridge.clock import MS, now_ns
from pipelines.build import build
from pipelines.spec import Stream


def build_warm(order: Load) -> tuple[Stream, float]:
    """What is ordered, and the milliseconds that a frame took; in a thread that yields to the painter beside it where
    the system allows that. Raises as `build` does."""
    result: list[Stream | BaseException] = []

    def job() -> None:
        if order.background and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        try:
            result.append(build(order.spec, order.params))
        except BaseException as error:  # handed over to the main thread whole
            result.append(error)

    thread = threading.Thread(target=job, name="ll-build")
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0], _warm(result[0], order)


def _warm(stream: Stream, order: Load) -> float:
    """One frame that nobody sees, for the yardstick: milliseconds. `build` has paid for kernel choices by then."""
    gray = np.full((order.spec.height, order.spec.width, 3), 127, np.uint8)
    began = now_ns()
    stream(gray, order.params)
    took = (now_ns() - began) / MS
    stream.reset()
    return took
