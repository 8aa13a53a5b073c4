"""What a frame takes from those before it, as far as that decides the sequence of operations.

The amounts are numbers in `pipelines.knobs.Knobs`; at 0 the operation is left out, so that off costs nothing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipelines.params import ColourMethod, ColourReference, FeedbackSpace, Params, SmoothingMode

Feedback = Literal["off", FeedbackSpace]
Smoothing = Literal["off", SmoothingMode]
MovingNoiseMode = Literal["fixed", "travel", "warp"]
"""`frame` is `travel` at full speed: the same operations."""


class Colours(NamedTuple):
    """How colours are held to a reference."""

    space: Literal["lab", "hsv", "rgb"]
    method: ColourMethod
    reference: ColourReference


class Temporal(NamedTuple):
    """Nothing by default."""

    feedback: Feedback = "off"
    noise: MovingNoiseMode = "fixed"
    smoothing: Smoothing = "off"
    colours: Colours | None = None
    refresh: bool = False
    """Whether what stands still keeps its pixels."""

    @property
    def follows(self) -> bool:
        """Whether it needs the input's flow."""
        return self.moves_pictures or self.noise == "warp"

    @property
    def moves_pictures(self) -> bool:
        """Whether it needs to know where the flow can be believed."""
        return self.feedback != "off" or self.smoothing == "flow"

    @property
    def looks_back(self) -> bool:
        """Whether it needs the frame before, or to know whether there is one of the same scene."""
        return (
            self.follows
            or self.smoothing != "off"
            or self.refresh
            or (self.colours is not None and self.colours.reference == "first")
        )


def temporal(params: Params) -> Temporal:
    """What `params` ask for. Without an input to paint over, there is nothing for feedback to be mixed into."""
    fed_back = params.feedback > 0.0 and params.mode == "img2img"
    colours = None
    if params.colour_match != "off" and params.colour_amount > 0.0:
        colours = Colours(params.colour_match, params.colour_method, params.colour_reference)
    return Temporal(
        feedback=params.feedback_space if fed_back else "off",
        noise="travel" if params.noise_mode == "frame" else params.noise_mode,
        smoothing=params.smoothing_mode if params.smoothing > 0.0 else "off",
        colours=colours,
        refresh=params.refresh_threshold > 0.0 and params.mode == "img2img",
    )
