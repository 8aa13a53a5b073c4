"""How the config has a run begin: its parameters and its show."""

from __future__ import annotations

from bridge.config import Config
from bridge.errors import ConfigError, ControlError
from bridge.metrics import Metrics
from bridge.preview import PreviewHub
from bridge.show.director import Director
from bridge.show.looks import Library
from bridge.store import ParamStore
from engines.registry import Registry
from pipelines.params import Params, table


def opened(config: Config, store: ParamStore, metrics: Metrics, preview: PreviewHub) -> Director:
    """The show as the config begins it; `preview`: where looks have their pictures from. Raises ConfigError."""
    director = Director(store, metrics, picture=lambda: _thumbnail(preview))
    try:
        schedules = dict(director.looks.get(config.look).schedules) if config.look else {}
        for name, text in {**schedules, **config.schedule}.items():
            director.schedule(name, text)
        if config.show:
            director.load(config.show)
    except ControlError as error:
        raise ConfigError(str(error)) from error
    metrics.gauge("look", config.look)
    return director


def initial_params(config: Config, registry: Registry) -> Params:
    """The model's own defaults, then the look's, then what the config says. ConfigError names what is wrong."""
    try:
        look = Library().get(config.look).values if config.look else {}
    except ControlError as error:
        raise ConfigError(str(error)) from error
    rows, values = table(), {**look, **config.params}
    entry = registry.get(str(values.get("model", Params().model)))
    for name in ("width", "height", "steps", "strength"):
        value = getattr(entry, name, None)
        if value is not None:
            values.setdefault(name, value)
    unknown = values.keys() - rows.keys()
    if unknown:
        raise ConfigError(f"no parameter {sorted(unknown)[0]!r}")
    try:
        return Params(**{name: rows[name].coerce(value) for name, value in values.items()})  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _thumbnail(preview: PreviewHub) -> bytes | None:
    from bridge.web.pictures import thumbnail  # OpenCV, which a start that saves no look need not wait for

    return thumbnail(preview)
