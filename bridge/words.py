"""Words for what was wrong: what a type takes, what was said, what may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from msgspec import inspect


def wanted(info: inspect.Type) -> str:
    """What a type takes, in words."""
    match info:
        case inspect.LiteralType(values=values):
            return " | ".join(str(v) for v in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(info, inspect.IntType) else "a number"
            low = (
                f" of at least {info.ge:g}"
                if info.ge is not None
                else f" above {info.gt:g}"
                if info.gt is not None
                else ""
            )
            return noun + low + (f" and at most {info.le:g}" if info.le is not None else "")
        case inspect.StrType(pattern=str()):
            return "an OSC address such as /ll"
        case inspect.StrType():
            return "text in quotes"
        case _:
            return "a list of texts"


def shown(value: object) -> str:
    text = repr(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def near(text: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(text[:64], list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
