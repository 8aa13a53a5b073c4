"""The table [schedule] of a config, a look or a cue: which parameters move by themselves, and how.

[schedule]
strength = "0:(0.4), 60:(0.4+0.2*sin(2*3.14*t/20))"
control.1.weight = "lfo sine 4b 0.2 0.9"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from bridge.errors import ConfigError, ParamError
from bridge.show.drives import scheduled
from pipelines.drive import compile_drive
from pipelines.expr import ExprError
from pipelines.params import table


def read_schedules(values: object, where: str) -> dict[str, str]:
    """Texts by row, out of the table. Raises ConfigError that names `where` and the key."""
    out: dict[str, str] = {}
    stack: list[tuple[str, object]] = [("", values)]
    while stack:
        key, value = stack.pop()
        name = _rows().get(key)
        if isinstance(value, Mapping) and name is None:
            stack += ((f"{key}.{part}".lstrip("."), inner) for part, inner in value.items())
        elif name is None:
            raise ConfigError(f"{where}: schedule.{key}: there is no such parameter")
        elif not isinstance(value, str):
            raise ConfigError(f"{where}: schedule.{key} takes text in quotes")
        else:
            try:
                scheduled(name)
                compile_drive(value)
            except (ParamError, ExprError) as error:
                raise ConfigError(f"{where}: schedule.{key}: {error}") from error
            out[name] = value
    return out


@cache
def _rows() -> dict[str, str]:
    """Names of rows by what they are called in TOML: `control.1.weight` and `control1_weight`."""
    return {name: name for name in table()} | {row.address.replace("/", "."): name for name, row in table().items()}
