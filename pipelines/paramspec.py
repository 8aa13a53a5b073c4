"""What a row of the parameter table is, and which values it takes. The rows are in pipelines/params.py; no torch."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from dataclasses import dataclass
from typing import Literal

Kind = Literal["live", "encode", "structural"]
"""When a change takes effect: with the next frame; when encoded beside the stream; when built in the standby worker."""
Curve = Literal["linear", "log", "square"]
"""How a control's travel maps onto the range; `square` gives fine steps near the minimum."""

MAX_TEXT_BYTES = 2048
MAX_ID_BYTES = 64


@dataclass(frozen=True, slots=True)
class Row:
    """What an annotation adds to a field of Params."""

    group: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    unit: str = ""
    curve: Curve = "linear"
    ids: str = ""
    """For a str that names an id: which registry it comes from (`models`, `controlnets`)."""
    choices: tuple[str, ...] = ()
    """For a str that names one of a list that is made elsewhere; a Literal says them itself."""
    step: int = 1
    """Values are multiples of this."""
    jumps: bool = False
    """A whole number that has no values between two others: it does not ramp."""


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One row of the table, complete."""

    name: str
    address: str
    """Under the OSC prefix, and in a TOML file with dots: `control/1/weight` for `control1_weight`, else the name."""
    group: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: bool | int | float | str
    doc: str
    kind: Kind
    low: float | None
    high: float | None
    unit: str
    curve: Curve
    choices: tuple[str, ...]
    ids: str
    step: int
    """Values are multiples of this; 1 where any will do."""
    ramps: bool
    """Whether `/ll/<address> value seconds` moves there over time (texts cross-fade by their own rule)."""

    def coerce(self, value: object) -> bool | int | float | str:
        """The value as this row's type. ValueError, a sentence, for a wrong type, not finite, or out of range."""
        if self.type is str:
            return self._text(value)
        if self.type is bool:
            return self._flag(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{self.name} takes a number, not {type(value).__name__}")
        try:
            value = float(value) if self.type is float else value
            finite = math.isfinite(value)
        except OverflowError:
            raise ValueError(f"{self.name} takes a smaller number") from None
        if not finite:
            raise ValueError(f"{self.name} takes a finite number")
        if self.type is int:
            if value != int(value):
                raise ValueError(f"{self.name} takes a whole number")
            value = int(value)
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise ValueError(f"{self.name} takes {self.low:g} to {self.high:g}, not {value:g}")
        if self.step > 1 and int(value) % self.step:
            raise ValueError(f"{self.name} takes multiples of {self.step}")
        return self.type(value)

    def _flag(self, value: object) -> bool:
        if isinstance(value, (bool, int, float)) and value in (0, 1):
            return bool(value)
        raise ValueError(f"{self.name} takes 0 or 1")

    def _text(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{self.name} takes text, not {type(value).__name__}")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{self.name} takes text, not half of a surrogate pair") from None
        most = MAX_ID_BYTES if self.ids else MAX_TEXT_BYTES
        if size > most:
            raise ValueError(f"{self.name} takes at most {most} bytes of text")
        if any(ord(c) < 32 and c not in "\n\t" for c in value):
            raise ValueError(f"{self.name} takes no control characters")
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name} takes {' | '.join(self.choices)}")
        return value


def docs_of(cls: type) -> dict[str, str]:
    """The string below each annotated field, as its documentation."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    out: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        target = field.target if isinstance(field, ast.AnnAssign) else None
        text = after.value if isinstance(after, ast.Expr) else None
        if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
            out[target.id] = str(text.value)
    return out
