"""The hint that `hint_preview` names, to the page and to sinks of its own: beside the picture, never in its way."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.context import Context
from bridge.drivers import DriverSpec, make_sink
from bridge.frame import Frame
from bridge.metrics import Renamed
from bridge.output import Output
from bridge.preview import PreviewHub

SHELF = "hint"
"""Of the page's pictures."""


class HintOutput(Output):
    """An `Output` whose figures are called `hint.…`. The page looks at its shelf whether there are sinks or not."""

    def __init__(self, sinks: Iterable[str], context: Context) -> None:
        """`sinks`: `name:target?options` each. Raises ConfigError and DriverError."""
        metrics = Renamed(context.metrics, lambda name: f"hint.{name}", "hint")
        super().__init__(metrics)
        self._page = context.preview
        # `preview` among them writes to a shelf that nobody sees: the page has this one
        alone = Context(context.config, metrics, PreviewHub(), context.main_tasks)
        for text in sinks:
            self.add(DriverSpec.parse(text).name, make_sink(text, alone))

    def put(self, frame: Frame) -> None:
        """A new hint from the worker."""
        super().put(frame)
        self._page.publish(SHELF, frame)
