"""What an expression may compute: operators and functions over doubles that never raise, as closures over closures.

Results are IEEE 754's: where Python's math raises, the pole's infinity or nan is given, as numpy and numexpr do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

Code = Callable[[Mapping[str, float]], float]
Unary = Callable[[float], float]
Binary = Callable[[float, float], float]
_NAN, _INF = math.nan, math.inf
_EXACT = 2.0**53
"""Whole numbers beyond it have no bits to speak of."""

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "tau": math.tau, "e": math.e, "true": 1.0, "false": 0.0}


class Function(NamedTuple):
    """A function by the number of its arguments; `make` takes their closures."""

    least: int
    most: int
    make: Callable[..., Code]


class Compare:
    """A comparison; its own type, because comparisons chain."""

    def __init__(self, holds: Callable[[float, float], bool]) -> None:
        self.holds = holds

    def __call__(self, a: Code, b: Code) -> Code:
        holds = self.holds
        return lambda values: 1.0 if holds(a(values), b(values)) else 0.0


def divide(a: float, b: float) -> float:
    try:
        return a / b
    except ZeroDivisionError:
        return _NAN if a == 0.0 or a != a else math.copysign(_INF, a) * math.copysign(1.0, b)


def floor_divide(a: float, b: float) -> float:
    return _floor(divide(a, b))


def remainder(a: float, b: float) -> float:
    """Has the sign of a, as C has it."""
    try:
        return math.fmod(a, b)
    except ValueError:
        return _NAN


def modulo(a: float, b: float) -> float:
    """Has the sign of b, as in Python, numpy and numexpr: what wraps a phase."""
    try:
        return a % b
    except ZeroDivisionError:
        return _NAN


def power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -_INF if a < 0.0 and math.fmod(b, 2.0) else _INF
    except ValueError:
        if a:
            return _NAN
        return math.copysign(_INF, a) if math.fmod(b, 2.0) in (1.0, -1.0) else _INF


def _floor(x: float) -> float:
    return float(math.floor(x)) if math.isfinite(x) else x


def _sign(x: float) -> float:
    return x if x != x or x == 0.0 else math.copysign(1.0, x)


def _smoothstep(a: float, b: float, x: float) -> float:
    u = min(1.0, max(0.0, divide(x - a, b - a)))
    return u * u * (3.0 - 2.0 * u)


def _least(*xs: float) -> float:
    return _NAN if any(x != x for x in xs) else min(xs)


def _most(*xs: float) -> float:
    return _NAN if any(x != x for x in xs) else max(xs)


def negate(a: Code) -> Code:
    return lambda values: -a(values)


def invert(a: Code, truth: bool) -> Code:
    """Logical not, or the bits of a whole number turned over."""
    if truth:
        return lambda values: 0.0 if a(values) else 1.0
    return lambda values: -1.0 - x if abs(x := a(values)) <= _EXACT and x == int(x) else _NAN


def bits(sign: str, a: Code, b: Code) -> Code:
    """& | ^ of whole numbers; of outcomes of comparisons, which are 0 and 1, that is logic."""
    work: Callable[[int, int], int] = {"&": int.__and__, "|": int.__or__, "^": int.__xor__}[sign]

    def run(values: Mapping[str, float]) -> float:
        x, y = a(values), b(values)
        if not (abs(x) <= _EXACT and abs(y) <= _EXACT):
            return _NAN
        return float(work(int(x), int(y))) if x == int(x) and y == int(y) else _NAN

    return run


def _two(f: Binary) -> Callable[[Code, Code], Code]:
    return lambda a, b: lambda values: f(a(values), b(values))


def _and(a: Code, b: Code) -> Code:
    return lambda values: 1.0 if a(values) and b(values) else 0.0


def _or(a: Code, b: Code) -> Code:
    return lambda values: 1.0 if a(values) or b(values) else 0.0


INFIX: Mapping[str, Callable[[Code, Code], Code]] = {
    "+": lambda a, b: lambda values: a(values) + b(values),
    "-": lambda a, b: lambda values: a(values) - b(values),
    "*": lambda a, b: lambda values: a(values) * b(values),
    "/": _two(divide),
    "//": _two(floor_divide),
    "%": _two(modulo),
    "**": _two(power),
    "<": Compare(float.__lt__),
    "<=": Compare(float.__le__),
    ">": Compare(float.__gt__),
    ">=": Compare(float.__ge__),
    "==": Compare(float.__eq__),
    "!=": Compare(float.__ne__),
    "and": _and,
    "or": _or,
}  # & | ^ are made by `bits`, which knows no short cut


def _one(f: Unary, pole: Unary = lambda _: _NAN) -> Function:
    """`pole` gives the result where f raises."""

    def make(a: Code) -> Code:
        def run(values: Mapping[str, float]) -> float:
            x = a(values)
            try:
                return f(x)
            except (ValueError, OverflowError):
                return pole(x)

        return run

    return Function(1, 1, make)


def _fixed(count: int, f: Callable[..., float]) -> Function:
    def make(*parts: Code) -> Code:
        return lambda values: f(*[part(values) for part in parts])

    return Function(count, count, make)


def _where(test: Code, a: Code, b: Code) -> Code:
    """Works out only the side that it gives."""
    return lambda values: a(values) if test(values) else b(values)


def _log_pole(at: float) -> Unary:
    return lambda x: -_INF if x == at else _NAN


_same: Unary = lambda x: x  # noqa: E731
_signed: Unary = lambda x: math.copysign(_INF, x)  # noqa: E731
_log, _log10, _log2 = (_one(f, _log_pole(0.0)) for f in (math.log, math.log10, math.log2))
_arcsin, _arccos, _arctan = _one(math.asin), _one(math.acos), _one(math.atan)
_ceil, _trunc, _round = (
    _one(lambda x: float(math.ceil(x)), _same),
    _one(lambda x: float(math.trunc(x)), _same),
    _one(lambda x: float(round(x)), _same),
)
_arctan2, _mod = _fixed(2, math.atan2), _fixed(2, modulo)
_clip, _min = _fixed(3, lambda x, a, b: _least(_most(x, a), b)), Function(1, 64, _fixed(0, _least).make)
_lerp = _fixed(3, lambda a, b, x: a + (b - a) * x)

FUNCTIONS: Mapping[str, Function] = {
    "sin": _one(math.sin), "cos": _one(math.cos), "tan": _one(math.tan),
    "arcsin": _arcsin, "arccos": _arccos, "arctan": _arctan, "arctan2": _arctan2,
    "asin": _arcsin, "acos": _arccos, "atan": _arctan, "atan2": _arctan2,
    "sinh": _one(math.sinh, _signed), "cosh": _one(math.cosh, lambda _: _INF), "tanh": _one(math.tanh),
    "arcsinh": _one(math.asinh), "arccosh": _one(math.acosh),
    "arctanh": _one(math.atanh, lambda x: math.copysign(_INF, x) if abs(x) == 1.0 else _NAN),
    "exp": _one(math.exp, lambda _: _INF), "expm1": _one(math.expm1, lambda _: _INF),
    "log": _log, "ln": _log, "log10": _log10, "log2": _log2, "log1p": _one(math.log1p, _log_pole(-1.0)),
    "sqrt": _one(math.sqrt), "abs": _one(abs), "sign": _one(_sign), "degrees": _one(math.degrees),
    "radians": _one(math.radians), "floor": _one(_floor), "ceil": _ceil, "trunc": _trunc, "round": _round,
    "fract": _one(lambda x: modulo(x, 1.0)),
    "pow": _fixed(2, power), "fmod": _fixed(2, remainder), "mod": _mod, "hypot": _fixed(2, math.hypot),
    "min": _min, "max": Function(1, 64, _fixed(0, _most).make), "minimum": _fixed(2, _least),
    "maximum": _fixed(2, _most), "clip": _clip, "clamp": _clip, "lerp": _lerp, "mix": _lerp,
    "smoothstep": _fixed(3, _smoothstep),
    "where": Function(3, 3, _where),
}  # fmt: skip
"""numexpr's and numpy's names, and those of shaders."""
