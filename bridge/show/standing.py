"""How a show stands, as figures for everyone: the beat, the cue that is on, the one after it, the time until then."""

from __future__ import annotations

import math

from bridge.metrics import Metrics
from bridge.show.cues import Cue, Show
from bridge.show.player import Player
from bridge.show.tempo import Tempo


def report(metrics: Metrics, tempo: Tempo, player: Player | None, at_s: float) -> None:
    """Into the gauges of bridge/telemetry.py's SHOW."""
    metrics.gauge("beat", tempo.beat(at_s) % tempo.per_bar + 1.0)
    if player is None:
        metrics.gauge("cue", "")
        metrics.gauge("cue.next", "")
        metrics.gauge("cue.in", -1.0)
        return
    after, due = player.following(), player.next_s(at_s)
    metrics.gauge("cue", _title(player.show, player.index))
    metrics.gauge("cue.next", _title(player.show, -1 if after is None else after))
    metrics.gauge("cue.in", due - at_s if math.isfinite(due) else -1.0)


def name_of(cue: Cue) -> str:
    return cue.name or cue.look


def _title(show: Show, index: int) -> str:
    return f"{index + 1} {name_of(show.cue[index])}".rstrip() if index >= 0 else ""
