"""What the meters show beyond the readings: where a frame's time goes, how latencies spread, memory, what was lost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bridge.metrics import Metrics
from bridge.web.messages import Detail

EDGES_MS = tuple(round(4 * 2 ** (i / 3), 1) for i in range(31))
"""Upper edges of the histogram's bins, each a quarter wider than the one before: 4 ms to 4 s."""
STAGES = {"before": "fed", "waiting": "wait", "painting": "frame", "shown": "out"}
"""Name on the page ← window in the metrics, in a frame's order (bridge/output.py)."""
LOSSES = (".dropped", ".skipped", ".errors", ".rejected", ".failed", ".overflow", ".unsent", ".restarts", ".held")


def detail(metrics: Metrics) -> Detail:
    seen = metrics.snapshot()
    return Detail(
        stages={name: (_number(seen, f"{w}.p50"), _number(seen, f"{w}.p99")) for name, w in STAGES.items()},
        edges=EDGES_MS,
        latencies=histogram(metrics.recent("latency")),
        memory=(_number(seen, "memory.used"), _number(seen, "memory.total")),
        lost={name: int(value) for name, value in sorted(seen.items()) if name.endswith(LOSSES) and _whole(value)},
    )


def histogram(values: tuple[float, ...]) -> tuple[int, ...]:
    """How many of them (ms) are in each bin of EDGES_MS; what is beyond counts in the first and the last."""
    counts = [0] * len(EDGES_MS)
    for value in values:
        place = math.ceil(3 * math.log2(max(value, 1e-9) / 4)) if math.isfinite(value) else len(EDGES_MS)
        counts[min(len(EDGES_MS) - 1, max(0, place))] += 1
    return tuple(counts)


def _number(seen: Mapping[str, float | str], name: str) -> float:
    value = seen.get(name, 0.0)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _whole(value: float | str) -> bool:
    return isinstance(value, (int, float)) and value >= 1
