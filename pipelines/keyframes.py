"""Deforum's keyframe language: `0:(0.4), 60:(0.4+0.2*sin(2*3.14*t/20))`, `0:("Euler a")`, `"max_f-1":(s)`.

A number leads straight to the next key. An expression is worked out anew at every moment until the next key, and what
leads to it leads to its value at its key. Text stays until the next key. Of two keys at one place the later one holds.

Beyond Deforum: keys may be seconds (`2.5s:`) or beats (`8b:`) instead of frames, and `t` counts what the keys count.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple

from pipelines.expr import LIVE, Expr, ExprError, compile_expr

MAX_LENGTH = 2048
MAX_KEYS = 256
KEY_NAMES = LIVE | {"s", "max_f"}

Unit = Literal["frames", "seconds", "beats"]
_UNITS: Mapping[str, Unit] = {"": "frames", "s": "seconds", "b": "beats"}
_KEY = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)'|([^:\"'(),]*)):\s*\(", re.ASCII)
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(s|b)?")
_NUMBER = re.compile(r"[+-]?(?=[\d.])\d*(?:\.\d+)?")
"""What Deforum takes for a number and not for an expression."""
_STEP = re.compile(r"\s*,?\s*")


class Key(NamedTuple):
    at: float
    """In the schedule's unit."""
    value: float | Expr | str


class Keyframes:
    """A schedule that has been read. `at` for a moment of a live run, `series` for all frames of a render."""

    def __init__(self, keys: Collection[Key], unit: Unit, length: float | None) -> None:
        """`length`, in `unit`: begin again after it; None goes on for ever."""
        held = {key.at: key for key in keys}
        self.keys = tuple(held[at] for at in sorted(held) if length is None or at < length)
        self.unit: Unit = unit
        self.length = length
        self.is_text = isinstance(self.keys[0].value, str)
        self._places = [key.at for key in self.keys]

    def at(self, t: float, values: dict[str, float]) -> float | str:
        """The value at `t` units; `values` are the other variables, and its `t` is overwritten. May be inf or nan."""
        if self.length is not None:
            t %= self.length
        here = max(0, bisect_right(self._places, t) - 1)
        key = self.keys[here]
        if isinstance(key.value, str):
            return key.value
        if isinstance(key.value, Expr):
            values["t"] = t
            return key.value(values)
        if here + 1 == len(self.keys):
            return key.value
        after = self.keys[here + 1]
        goal = self._number(after, values)
        if not math.isfinite(goal):
            return key.value
        return key.value + (goal - key.value) * (t - key.at) / (after.at - key.at)

    def series(self, frames: int, seed: int = 0) -> list[float | str]:
        """Every frame of a render, as Deforum tabulates them: where an expression gives no number, the straight line
        between the numbers around it; flat before the first and after the last."""
        values = {"s": float(seed), "seed": float(seed), "max_f": frames - 1.0}
        keys, here = {key.at: key for key in self.keys}, self.keys[0]
        texts: list[float | str] = []
        numbers: list[float] = []
        for t in range(frames):
            here = keys.get(t, here)
            if isinstance(here.value, str):
                texts.append(here.value)
            elif isinstance(here.value, float) and t != here.at:
                numbers.append(math.nan)
            else:
                numbers.append(self._number(Key(t, here.value), values))
        return texts or list(_bridged(numbers))

    def _number(self, key: Key, values: dict[str, float]) -> float:
        if isinstance(key.value, Expr):
            return key.value({**values, "t": key.at})
        return float(key.value)


def parse(text: str, length: float | None = None, names: Collection[str] = KEY_NAMES) -> Keyframes:
    """Read a schedule. `length`, in the unit of its keys: where it begins again; `max_f` is that less one, the last
    frame's number, as in Deforum. `names`: its variables.

    Raises ExprError that says what, at which key and character.
    """
    if len(text) > MAX_LENGTH:
        raise ExprError(f"a schedule has at most {MAX_LENGTH} characters")
    keys: list[Key] = []
    units: set[Unit] = set()
    at, end = 0, len(text.rstrip(" ,\n\t"))
    while at < end:
        found = _KEY.match(text, at)
        if found is None:
            raise ExprError(f"here a key such as 60: and a value in brackets is due (character {at + 1})")
        place = found.start(found.lastindex or 0) + 1
        frame, unit = _place(next(filter(None, found.groups()), ""), length, names, place)
        close = _closing(text, found.end())
        keys.append(Key(frame, _value(text[found.end() : close], names, frame, found.end() + 1)))
        units.add(unit)
        if len(keys) > MAX_KEYS:
            raise ExprError(f"a schedule has at most {MAX_KEYS} keys (character {place})")
        between = _STEP.match(text, close + 1)
        at = between.end() if between else close + 1
    _check(keys, units)
    return Keyframes(keys, units.pop(), length)


def _check(keys: list[Key], units: set[Unit]) -> None:
    if not keys:
        raise ExprError("the schedule is empty")
    if len(units) > 1:
        raise ExprError(f"keys count one thing, and these count {' and '.join(sorted(units))}")
    if all(key.at for key in keys):
        raise ExprError(f"there is no key 0: the first is at {min(key.at for key in keys):g}")
    if len({isinstance(key.value, str) for key in keys}) > 1:
        raise ExprError("a schedule is of texts or of numbers, not of both")


def _place(text: str, length: float | None, names: Collection[str], character: int) -> tuple[float, Unit]:
    """Where a key is, and in what unit."""
    text = text.strip()
    if found := _COUNT.fullmatch(text):
        unit = _UNITS[found[2] or ""]
        return (float(int(float(found[1]))) if unit == "frames" else float(found[1])), unit
    if "max_f" in text and length is None:
        raise ExprError(
            f"max_f is the last frame of a schedule's length, and it was given none (character {character})"
        )
    try:
        value = compile_expr(text, [name for name in ("s", "max_f") if name in names])({"max_f": (length or 1) - 1})
    except ExprError as error:
        raise ExprError(f"the key {text[:40]!a} (character {character}): {error}") from None
    if not 0 <= value < 2**31:
        raise ExprError(f"the key {text[:40]!a} is no frame from 0 on (character {character})")
    return float(int(value)), "frames"


def _closing(text: str, at: int) -> int:
    """Where the bracket that was opened before `at` is closed; quoted text may hold brackets."""
    depth, quote = 1, ""
    for here in range(at, len(text)):
        sign = text[here]
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if not depth:
                return here
    raise ExprError(f"the bracket at character {at} is never closed")


def _value(text: str, names: Collection[str], frame: float, character: int) -> float | Expr | str:
    body = text.strip()
    if len(body) > 1 and body[0] in "\"'" and body[0] == body[-1]:
        return body[1:-1]
    if _NUMBER.fullmatch(body):
        return float(body)
    try:
        return compile_expr(body, names)
    except ExprError as error:
        raise ExprError(f"at key {frame:g} (character {character}): {error}") from None


def _bridged(values: list[float]) -> list[float]:
    """Straight lines over what is not a number."""
    there = [i for i, value in enumerate(values) if math.isfinite(value)]
    if not there:
        raise ExprError("the schedule gives no number at any frame")
    out = list(values)
    out[: there[0]] = [values[there[0]]] * there[0]
    out[there[-1] :] = [values[there[-1]]] * (len(values) - there[-1])
    for a, b in pairwise(there):
        for i in range(a + 1, b):
            out[i] = values[a] + (values[b] - values[a]) * (i - a) / (b - a)
    return out
