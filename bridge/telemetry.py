"""What a run tells about itself, in one table: address under the OSC prefix ← metric. The reference shows the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.osc import Bundle, Message, bundle, message

Number = float | str

MAX_TEXT = 200
"""Characters of a text that are sent: the whole table shall fit one unfragmented datagram."""
NOTES = ("prompt.", "lora.state", "lora.error", "ip.state", "ip.error", "ip.age")
"""What the gauges begin with by which the worker reports on prompts and LoRAs (`prompt.tokens` …): /prompt/<what>."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One row: what is sent to whom asked for telemetry."""

    address: str
    """Under the prefix: `/fps` is sent as `/ll/fps`."""
    metric: str
    """Name in `Metrics.snapshot`; one that starts with `*` is the sum of all that end like it."""
    type: type[float] | type[int] | type[str]
    unit: str
    doc: str
    most: int = MAX_TEXT
    """Characters of a text."""


READINGS = (
    Reading("/fps", "frame.rate", float, "1/s", "Painted frames that were shown per second."),
    Reading("/latency/p50", "latency.p50", float, "ms", "From capture to output, the median of the last 512 frames."),
    Reading("/latency/p99", "latency.p99", float, "ms", "The same, for all but the slowest hundredth."),
    Reading("/overhead/p50", "overhead.p50", float, "ms", "Of the median latency, what is not the worker's own time."),
    Reading("/frame/p50", "frame.p50", float, "ms", "The worker's own time for a frame, median."),
    Reading("/frame/p99", "frame.p99", float, "ms", "The worker's own time for all but the slowest hundredth."),
    Reading("/age", "age", float, "ms", "Age of the picture that is shown."),
    Reading(
        "/dropped", "*.dropped", int, "", "Frames left out since the start, on the way in and out, newer ones won."
    ),
    Reading("/repeated", "output.repeated", int, "", "Times that an output showed its last picture again."),
    Reading("/restarts", "worker.restarts", int, "", "Workers that died or stalled and were replaced."),
    Reading("/rejected", "osc.rejected", int, "", "OSC messages that were refused."),
    Reading(
        "/param/version", "params.version", int, "", "Version of the parameters that the shown picture was made with."
    ),
    Reading("/state", "state", str, "", "starting, running, holding, failed or paused."),
    Reading("/error", "error", str, "", "What went wrong last; empty when nothing did."),
    Reading(
        "/control/state",
        "control.state",
        str,
        "",
        "Units that act, ControlNets on their way, ages of own streams.",
        104,
    ),
    Reading("/control/error", "control.error", str, "", "What a control unit lacks; empty when nothing.", 134),
    Reading("/control/age", "control.age", int, "frames", "Age of the oldest hint that acts (control/N/every)."),
    Reading("/skipped", "coherence.skipped", int, "", "Frames that similarity_threshold left unpainted."),
    Reading(
        "/change", "coherence.change", float, "levels", "What it compares: the input against the last painted one."
    ),
    Reading("/cuts", "coherence.cuts", int, "", "Cuts found in the input, while something recurs."),
    Reading("/cut", "coherence.difference", float, "", "What they are found by: 1 / cut_sensitivity is a cut."),
    Reading("/info/version", "version", str, "", "Version, and the TouchDesigner component that belongs to it.", 30),
    Reading("/info/source", "source", str, "", "Where the frames come from.", 75),
    Reading("/info/model", "model", str, "", "What paints them.", 75),
)

SHOW = (
    Reading("/look/now", "look", str, "", "The look that was recalled or saved last.", 40),
    Reading("/cue/now", "cue", str, "", "The cue that is on, with its number.", 64),
    Reading("/cue/next", "cue.next", str, "", "The cue after it.", 64),
    Reading("/cue/in", "cue.in", float, "s", "Until that one fires by itself; -1 if it waits for a hand."),
    Reading("/beat", "beat", float, "", "Where in the bar the show is: 1 is its first beat."),
    Reading("/clock/from", "beat.from", str, "", "Whose beat it is now: own, midi or link.", 8),
    Reading("/link/peers", "link.peers", int, "", "Other programs in the Ableton Link session."),
    Reading("/midi/state", "midi.state", str, "", "MIDI ports that are open, and what is being learnt.", 104),
    Reading("/schedule/active", "schedule.active", str, "", "Parameters that schedules move, those in hand marked so."),
    Reading(
        "/engine/doing", "engine.doing", str, "", "What is measured or built beside the show; empty for nothing.", 48
    ),
    Reading("/engine/share", "engine.share", float, "", "How far that is, 0 to 1."),
    Reading(
        "/painted",
        "coherence.painted",
        float,
        "",
        "How much of the picture a frame paints, 0 to 1 (refresh_threshold).",
    ),
    Reading("/display/state", "display.state", str, "", "What `display_rate` does: off, its rate, or why not.", 80),
    Reading(
        "/display/warped", "output.warped", int, "", "Pictures that were moved on, between those that are painted."
    ),
    Reading("/display/motion", "motion.p50", float, "ms", "Age of the input whose motion they show, median."),
    Reading("/record/on", "record.on", int, "", "Whether a recording runs: 1 or 0."),
    Reading("/record/state", "record.state", str, "", "Its folder, or why it has ended.", 120),
    Reading("/record/seconds", "record.seconds", float, "s", "For how long it has run."),
    Reading("/record/frames", "record.frames", int, "", "Pictures that are written."),
    Reading("/record/lost", "record.lost", int, "", "Pictures that were left out: writing them was too slow."),
    Reading("/still/saved", "still", str, "", "The still that was saved last, or why it was not.", 90),
)
"""A datagram of its own."""


def readings(seen: Mapping[str, Number]) -> dict[str, Number]:
    """Every row's value by its address, from `Metrics.snapshot()`; zero or empty where there is none yet."""
    out: dict[str, Number] = {row.address: _value(row, seen) for row in (*READINGS, *SHOW)}
    for name, value in seen.items():
        if name.startswith(NOTES):
            out["/" + name.replace(".", "/")] = value
    return out


def telemetry(prefix: str, seen: Mapping[str, Number]) -> Bundle:
    """How the run goes, as one bundle, so that a receiver sees figures that belong together."""
    own = {prefix + row.address for row in SHOW}
    said = ((prefix + address, value) for address, value in readings(seen).items())
    return bundle(*(_message(address, value) for address, value in said if address not in own))


def show_telemetry(prefix: str, seen: Mapping[str, Number]) -> Bundle:
    """How the show goes, as another."""
    return bundle(*(_message(prefix + row.address, _value(row, seen)) for row in SHOW))


def _value(row: Reading, seen: Mapping[str, Number]) -> Number:
    if row.metric.startswith("*"):
        ending = row.metric[1:]
        return int(sum(float(value) for name, value in seen.items() if name.endswith(ending)))
    value = seen.get(row.metric)
    if row.type is str:
        return "" if value is None else str(value)[: row.most]
    # A metric of another type is a fault of ours; a telemetry thread is the wrong place to die of it.
    return row.type(value) if isinstance(value, (int, float)) else row.type(0)


def _message(address: str, value: Number) -> Message:
    if isinstance(value, str):
        # A file's name may hold what no UTF-8 can, and must not silence all other figures.
        text = value[:MAX_TEXT].replace("\0", "").encode("utf-8", "replace").decode()
        return message(address, text)
    # A counter that outgrows OSC's int would go as h, which many receivers do not read.
    return message(address, min(value, 2**31 - 1) if isinstance(value, int) else value)
