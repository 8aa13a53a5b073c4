"""Rows of the parameter table that there are once for each control unit. No torch here: the bridge imports this."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engines.modelrows import NO_CONTROLNET
from pipelines.paramspec import Row
from pipelines.preprocess.registry import CHOICES

UNITS = 4
"""Control units, numbered from 1."""

ControlMode = Literal["balanced", "prompt", "control"]
ControlSource = Literal["input", "stream", "previous_output", "still", "previous_input"]
ControlFit = Literal["fit", "crop", "letterbox", "stretch"]
ControlMask = Literal["off", "alpha", "inverted"]


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One ControlNet at work. A field is one row of the table for each unit: `control1_weight` is the first's."""

    on: Annotated[bool, Row("control", "live")] = False
    """Let the unit act; off costs nothing, and its model stays loaded."""
    model: Annotated[str, Row("control", "encode", ids="controlnets")] = NO_CONTROLNET
    """ControlNet id from configs/models.toml; loaded beside the stream, the one before acts until it is there."""
    source: Annotated[ControlSource, Row("control", "live")] = "input"
    """Which picture steers: the input, a stream of the unit's own, the last picture that came out (TemporalNet), the
    input as it was when `still` was chosen, or the input one frame ago."""
    follow: Annotated[bool, Row("control", "live")] = True
    """Move the last picture as the input moved, and act only where that can be known: nowhere after a cut."""
    preprocessor: Annotated[str, Row("control", "live", choices=tuple(CHOICES))] = "none"
    """What makes the hint out of that picture, such as its edges; none shows it as it is."""
    low: Annotated[float, Row("control", "live", -1, 255)] = -1.0
    """First threshold of the preprocessor, where it has one; -1 is its own."""
    high: Annotated[float, Row("control", "live", -1, 255)] = -1.0
    """Second threshold of the preprocessor, where it has one; -1 is its own."""
    every: Annotated[int, Row("control", "live", 1, 60, "frames", jumps=True)] = 1
    """How often a preprocessor with a network looks: 2 is at every other frame. In between its last hint is moved along
    with what the unit sees."""
    weight: Annotated[float, Row("control", "live", 0, 2)] = 1.0
    """How strongly the hint holds; 0 is as good as off."""
    start: Annotated[float, Row("control", "live", 0, 1)] = 0.0
    """Acts from this noise level on: 0 is pure noise, 1 the finished picture; strength 0.6 begins at 0.4."""
    end: Annotated[float, Row("control", "live", 0, 1)] = 1.0
    """Acts up to this noise level."""
    mode: Annotated[ControlMode, Row("control", "live")] = "balanced"
    """Which matters more: prompt weakens the hint towards the details, control does so too but keeps it out of the
    negative side of guidance, which multiplies it by the guidance scale."""
    resize: Annotated[ControlFit, Row("control", "live")] = "fit"
    """How a picture of another shape is brought to the model's size; fit does it as the input is."""
    pixel_perfect: Annotated[bool, Row("control", "live")] = True
    """Preprocess at the size that is painted; off, at `resolution`."""
    resolution: Annotated[int, Row("control", "live", 64, 2048, "px", step=64, jumps=True)] = 512
    """Shorter side at which the preprocessor works without pixel_perfect."""
    mask: Annotated[ControlMask, Row("control", "live")] = "off"
    """Act only where that picture's alpha is opaque, or inverted, where it is clear."""
