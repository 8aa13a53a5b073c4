"""The one clock. Nanoseconds since an arbitrary start, the same in every process of this machine.

`perf_counter` rather than `monotonic`: on Windows before Python 3.13 the latter ticks every 15.6 ms.
"""

from __future__ import annotations

import time

NS = 1_000_000_000
MS = 1_000_000

now_ns = time.perf_counter_ns


def seconds(ns: int) -> float:
    return ns / NS


def from_seconds(s: float) -> int:
    return int(s * NS)
