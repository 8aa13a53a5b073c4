"""Counters, gauges and latency windows: every drop, repeat, reject and restart is here, and everyone can see it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from bridge.clock import NS, now_ns


class Window:
    """Percentiles over the last `size` values, and how many came per second lately."""

    def __init__(self, size: int = 512) -> None:
        self.kept: deque[float] = deque(maxlen=size)
        self._times: deque[int] = deque(maxlen=size)

    def add(self, value: float, at_ns: int) -> None:
        self.kept.append(value)
        self._times.append(at_ns)

    def percentiles(self, *qs: float) -> tuple[float, ...]:
        """The q-th percentiles (0 to 100) by nearest rank; 0.0 when empty."""
        values = sorted(self.kept) or [0.0]
        return tuple(values[min(len(values) - 1, int(len(values) * q / 100))] for q in qs)

    def rate(self, at_ns: int, over_s: float = 2.0) -> float:
        """Events per second over the last `over_s` seconds."""
        start = at_ns - int(over_s * NS)
        recent = [t for t in self._times if t >= start]
        if len(recent) < 2:
            return 0.0
        if len(recent) == self._times.maxlen:
            return (len(recent) - 1) * NS / max(1, recent[-1] - recent[0])
        return len(recent) / over_s


class Metrics:
    """Thread-safe. Names are dotted, `<who>.<what>`, for example `source.dropped` or `osc.rejected`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._gauges: dict[str, float | str] = {}
        self._windows: dict[str, Window] = {}

    def count(self, name: str, n: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + n

    def gauge(self, name: str, value: float | str) -> None:
        with self._lock:
            self._gauges[name] = value

    def unsay(self, name: str, said: str) -> None:
        """Empty this gauge, if it still says that: what others have said since stays."""
        with self._lock:
            if self._gauges.get(name) == said:
                self._gauges[name] = ""

    def observe(self, name: str, value: float) -> None:
        """Add one measurement (milliseconds for times) to the window of this name."""
        with self._lock:
            window = self._windows.get(name)
            if window is None:
                window = self._windows[name] = Window()
            window.add(value, now_ns())

    def get(self, name: str) -> int:
        with self._lock:
            return self._counts.get(name, 0)

    def recent(self, name: str) -> tuple[float, ...]:
        """What is in the window of this name, oldest first."""
        with self._lock:
            window = self._windows.get(name)
            return tuple(window.kept) if window is not None else ()

    def snapshot(self) -> Mapping[str, float | str]:
        """All counters and gauges; every window as `<name>.p50`, `<name>.p99` and `<name>.rate`."""
        at = now_ns()
        with self._lock:
            out: dict[str, float | str] = {**self._counts, **self._gauges}
            for name, window in self._windows.items():
                out[f"{name}.p50"], out[f"{name}.p99"] = window.percentiles(50, 99)
                out[f"{name}.rate"] = window.rate(at)
            return out


class Renamed(Metrics):
    """Other metrics under other names, for a part of the program that runs twice; its errors say whose they are."""

    def __init__(self, metrics: Metrics, rename: Callable[[str], str], whose: str) -> None:
        super().__init__()
        self._all, self._rename, self._whose = metrics, rename, whose

    def _named(self, name: str) -> str:
        # the sum of all that end in `dropped` is the main stream's, whose gaps people see
        return self._rename(name).replace(".dropped", ".skipped")

    def count(self, name: str, n: int = 1) -> None:
        self._all.count(self._named(name), n)

    def gauge(self, name: str, value: float | str) -> None:
        if name == "error":
            self._all.gauge(name, f"{self._whose}: {value}" if value else "")
        else:
            self._all.gauge(self._named(name), value)

    def unsay(self, name: str, said: str) -> None:
        if name == "error":
            self._all.unsay(name, f"{self._whose}: {said}")
        else:
            self._all.unsay(self._named(name), said)

    def observe(self, name: str, value: float) -> None:
        self._all.observe(self._named(name), value)

    def get(self, name: str) -> int:
        return self._all.get(self._named(name))
