"""The page's output shelf as a sink: a pointer changes hands, nothing is copied or encoded here."""

from __future__ import annotations

from bridge.context import Context
from bridge.drivers import DriverSpec
from bridge.frame import Frame
from bridge.pacing import Pace
from bridge.preview import PreviewHub


class PreviewSink:
    """`preview`: shows finished pictures to whoever has the page open. Takes no options."""

    pace = Pace(hold_s=None)
    """A page holds its last picture by itself."""

    def __init__(self, hub: PreviewHub) -> None:
        self._hub = hub

    @classmethod
    def from_spec(cls, spec: DriverSpec, context: Context) -> PreviewSink:
        spec.take()
        return cls(context.preview)

    def open(self) -> None:
        """Nothing to acquire."""

    def write(self, frame: Frame) -> None:
        self._hub.publish("output", frame)

    def close(self) -> None:
        """Nothing to release; the last picture stays on the shelf."""

    def describe(self) -> str:
        return "preview: the page's output picture"
