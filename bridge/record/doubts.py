"""Why a picture may not come out again as it was, as far as its recording tells."""

from __future__ import annotations

from bridge.record.lines import Entry
from pipelines.acting import Acting
from pipelines.params import Params
from pipelines.preprocess.registry import CHOICES
from pipelines.spec import Engine

NAMED: tuple[Engine, ...] = ("openvino", "tensorrt", "compiled", "fake")
ALONE = ("stream", "still")
"""Sources that are no frame of the input."""


def engine_of(acting: Acting) -> Engine:
    """The engine by what it says of itself, which begins with its name unless it is eager."""
    return next((name for name in NAMED if acting.engine.startswith(name)), "eager")


class Doubts:
    """Of one replay: asked for each picture in turn."""

    def __init__(self) -> None:
        self._first: Params | None = None
        self._fading = False
        """Whether a cross-fade goes on that began where nothing was recorded."""
        self._inherited = ""
        """Why what the frames before hand on may be something else."""

    def hole(self, why: str) -> None:
        """A picture that could not be painted again."""
        self._inherited = self._inherited or why

    def of(self, entry: Entry, engine: object, fresh: bool) -> str:
        """A sentence, or nothing. `engine`: what paints now says of itself. `fresh`: the picture is the first that its
        worker painted, or of the recording."""
        line, params = entry.line, entry.params
        if self._first is None:
            self._first = params
        if fresh:
            self._inherited = ""
        elif line.lost:
            self.hole("pictures before it were left out")
        self._fading = entry.acting.fade < 1.0 and (self._fading or fresh)
        own = self._own(entry, engine, self._first)
        if own:
            self.hole(own)
            return own
        return self._inherited if recurs(params) else ""

    def _own(self, entry: Entry, engine: object, first: Params) -> str:
        params, acting = entry.params, entry.acting
        if acting.engine != engine:
            return f"{acting.engine} painted it, and not {engine}"
        if self._fading:
            return "a cross-fade was on that began before"
        if acting.late:
            return "what its prompt says at that moment was not encoded in time"
        if params.ip_on and params.ip_scale > 0.0:
            return "the image prompt is read beside the stream, at a pace of its own"
        captured = params.colour_match != "off" and params.colour_reference == "captured"
        if captured and params.colour_capture == first.colour_capture != 0:
            return "the colours were caught before the recording"
        return _units(params, first)


def _units(params: Params, first: Params) -> str:
    for number, (unit, before) in enumerate(zip(params.units(), first.units(), strict=True), 1):
        if not (unit.on and unit.weight > 0.0):
            continue
        if unit.source == "stream":
            return f"control unit {number} has a stream of its own, which is not recorded"
        if unit.source == before.source == "still":
            return f"control unit {number} sees a still from before the recording"
        if CHOICES[unit.preprocessor].beside:
            return f"control unit {number} looks beside the stream, at a pace of its own"
    return ""


def recurs(params: Params) -> bool:
    """Whether a picture depends on those before it."""
    units = [unit for unit in params.units() if unit.on and unit.weight > 0.0]
    return (
        params.feedback > 0.0
        or params.smoothing > 0.0
        or params.noise_mode != "fixed"
        or params.similarity_threshold > 0.0
        or params.reuse_deep > 0
        or params.colour_match != "off"
        or any(unit.every > 1 or unit.source not in ("input", *ALONE) for unit in units)
    )
