"""What a driver may use of the program around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.config import Config
from bridge.metrics import Metrics
from bridge.preview import PreviewHub


@dataclass(frozen=True, slots=True)
class Context:
    """Passed to every driver's `from_spec(spec, context)`."""

    config: Config = field(default_factory=Config)
    metrics: Metrics = field(default_factory=Metrics)
    preview: PreviewHub = field(default_factory=PreviewHub)
    main_tasks: list[Callable[[], None]] = field(default_factory=list)
    """What a driver needs done on the main thread, ten times a second; each returns within milliseconds."""
