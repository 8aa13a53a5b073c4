"""What moves a parameter by itself: a schedule of keyframes, a formula, or one of three short forms. No torch.

0:(0.4), 60:(0.4+0.2*sin(2*3.14*t/20))      Deforum's keyframes; `t` counts what its keys count
0.5 + 0.3*sin(tau*beat/4)                   a formula; `t` is seconds
lfo sine 4s 0.2 0.8                         a wave: sine, triangle, saw, square, random; a period of s, b or bar
env 0.01s 0s 0.4s 0 1 kick                  up, hold, down; again whenever the input `kick` rises over a half
map bass 0.2 0.8 square 0.02 0.3            an input's 0 to 1 onto a range, with a curve, attack and release seconds
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pipelines.expr import LIVE, Expr, ExprError, compile_expr
from pipelines.keyframes import Keyframes, parse

NAMES = LIVE | {"s"}
CURVES: Mapping[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "square": lambda u: u * u,
    "root": math.sqrt,
    "ease": lambda u: u * u * (3.0 - 2.0 * u),
}
TRIGGER = 0.5
_TIME = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(s|b|bar)")
_INPUT = re.compile(r"(?:in\.)?([A-Za-z_]\w{0,31})", re.ASCII)


class Instant(NamedTuple):
    """A moment of a drive's life."""

    seconds: float
    """Since it was attached."""
    frames: float
    """Deforum's frames since then."""
    beats: float
    """Beats since then."""


class Shared(NamedTuple):
    """What all drives see at a moment."""

    values: dict[str, float]
    """beat, bar, phase, fps, seed, strength, in.<name>; a drive may write its own t, f and time into it."""
    bar: float
    """Beats in a bar."""


Drive = Callable[[Instant, Shared], float | str]
"""The value at a moment; may be inf or nan, which means that there is none."""


class Bounds(NamedTuple):
    """The range of the parameter that is moved: what a short form that names none goes over."""

    low: float = 0.0
    high: float = 1.0


OWN = Bounds()


def compile_drive(text: str, bounds: Bounds = OWN, length: float | None = None) -> Drive:
    """Read one. `length`: where keyframes begin again, in the unit of their keys. Raises ExprError."""
    words = text.split()
    if words and (form := _FORMS.get(words[0].lower())):
        return form(words[1:], bounds)
    if ":" in text:
        return _keyframes(parse(text, length), length)
    return _formula(compile_expr(text, NAMES))


def _keyframes(read: Keyframes, length: float | None) -> Drive:
    unit = Instant._fields.index(read.unit)
    fixed = {} if length is None else {"max_f": length - 1.0}

    def drive(at: Instant, shared: Shared) -> float | str:
        values = shared.values
        values.update(fixed, f=at.frames, time=at.seconds)
        return read.at(at[unit], values)

    return drive


def _formula(expr: Expr) -> Drive:
    def drive(at: Instant, shared: Shared) -> float:
        shared.values.update(t=at.seconds, time=at.seconds, f=at.frames)
        return expr(shared.values)

    return drive


def _lfo(words: list[str], bounds: Bounds) -> Drive:
    """`SHAPE PERIOD [LOW HIGH]`. A wave in beats keeps to the beat of the show, one in seconds begins now."""
    if len(words) not in (2, 4) or words[0] not in _SHAPES:
        raise ExprError(f"lfo takes {' | '.join(_SHAPES)}, a period such as 4s, 2b or 1bar, and perhaps low and high")
    shape, (size, unit) = _SHAPES[words[0]], _time(words[1])
    if not size:
        raise ExprError("lfo: the period must be above 0")
    low, high = _range(words[2:], bounds)

    def drive(at: Instant, shared: Shared) -> float:
        turns = at.seconds / size if unit == "s" else shared.values["beat"] / (size * _beats(unit, shared))
        return low + (high - low) * shape(turns)

    return drive


def _env(words: list[str], bounds: Bounds) -> Drive:
    """`ATTACK HOLD RELEASE [LOW HIGH] [INPUT]`. Without an input it runs once, from now."""
    if not 3 <= len(words) <= 6:
        raise ExprError("env takes attack, hold and release such as 0.1s 0s 2s, and perhaps low, high and an input")
    times = [_time(word) for word in words[:3]]
    in_seconds = {unit == "s" for _, unit in times}
    if len(in_seconds) > 1:
        raise ExprError("env: its three times are all in s, or all in b and bar")
    clock = 0 if in_seconds.pop() else 2
    name = _input(words[-1]) if len(words) in (4, 6) else ""
    low, high = _range(words[3:5] if len(words) > 4 else [], bounds)
    began, was_up = (math.inf if name else 0.0), False

    def drive(at: Instant, shared: Shared) -> float:
        nonlocal began, was_up
        if name:
            up = shared.values.get(name, 0.0) > TRIGGER
            began = at[clock] if up and not was_up else began
            was_up = up
        attack, hold, release = (size * _beats(unit, shared) for size, unit in times)
        return low + (high - low) * _level(at[clock] - began, attack, hold, release)

    return drive


def _level(passed: float, attack: float, hold: float, release: float) -> float:
    if passed < 0.0:
        return 0.0
    if passed < attack:
        return passed / attack
    gone = passed - attack - hold
    if gone <= 0.0:
        return 1.0
    return max(0.0, 1.0 - gone / release) if release else 0.0


def _map(words: list[str], bounds: Bounds) -> Drive:
    """`INPUT [LOW HIGH] [CURVE] [ATTACK [RELEASE]]`. Attack and release: seconds to come within a twentieth."""
    wrong = ExprError(f"map takes an input, and perhaps low and high, {' | '.join(CURVES)}, attack and release seconds")
    if not words:
        raise wrong
    name, rest = _input(words[0]), words[1:]
    curve = next((word for word in rest if word in CURVES), "linear")
    numbers = [_number(word) for word in rest if word not in CURVES]
    if len(numbers) > 4 or len(rest) - len(numbers) > 1 or len(numbers) == 1:
        raise wrong
    low, high = (numbers[0], numbers[1]) if numbers else bounds
    attack, release = (*numbers[2:], *(numbers[2:3] or [0.0]), 0.0)[:2]
    shape, level, last = CURVES[curve], math.nan, 0.0

    def drive(at: Instant, shared: Shared) -> float:
        nonlocal level, last
        goal = shared.values.get(name)
        if goal is None:
            return math.nan  # nothing was ever sent: the parameter stays where it is
        goal = min(1.0, max(0.0, goal))
        slow = attack if goal > level else release
        part = 1.0 if level != level or slow <= 0.0 else 1.0 - math.exp(-3.0 * max(0.0, at.seconds - last) / slow)
        level, last = goal if level != level else level + (goal - level) * part, at.seconds
        return low + (high - low) * shape(level)

    return drive


_FORMS: Mapping[str, Callable[[list[str], Bounds], Drive]] = {"lfo": _lfo, "env": _env, "map": _map}


def _cycle(turns: float) -> float:
    """One number for each turn, as if drawn from 0 to 1 (the mixer of Murmur3): the same in every run."""
    x = (math.floor(turns) * 0x9E3779B1) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return float(x ^ (x >> 16)) / 0xFFFFFFFF


_SHAPES: Mapping[str, Callable[[float], float]] = {
    "sine": lambda turns: 0.5 - 0.5 * math.cos(math.tau * turns),
    "triangle": lambda turns: 1.0 - abs(2.0 * (turns % 1.0) - 1.0),
    "saw": lambda turns: turns % 1.0,
    "square": lambda turns: 1.0 if turns % 1.0 < 0.5 else 0.0,
    "random": _cycle,
}


def _time(word: str) -> tuple[float, str]:
    found = _TIME.fullmatch(word.lower())
    if found is None:
        raise ExprError(f"{word[:40]!a} is no time: it takes one such as 0.5s, 2b or 1bar")
    return float(found[1]), found[2]


def _beats(unit: str, shared: Shared) -> float:
    return shared.bar if unit == "bar" else 1.0


def _range(words: list[str], bounds: Bounds) -> tuple[float, float]:
    return (_number(words[0]), _number(words[1])) if words else bounds


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ExprError(f"{word[:40]!a} is no number")
    return value


def _input(word: str) -> str:
    found = _INPUT.fullmatch(word)
    if found is None:
        raise ExprError(f"{word[:40]!a} is no name of an input")
    return f"in.{found[1]}"
