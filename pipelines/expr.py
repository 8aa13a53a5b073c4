"""Arithmetic that people type: `0.5 + 0.2*sin(6.28*t/10)`, `where(beat % 4 < 1, 1, in.kick)`.

An expression is text from a stranger. It has a grammar of its own (the operators and functions of numexpr, which
Deforum's schedules are written in, and live variables), is checked name by name while it is read, and becomes a tree of
closures over doubles. No Python source is parsed; no attribute, string, container, loop or call beyond the table
exists; and every value is a 64-bit float, so that neither time nor memory can run away: `9**9**9` is inf. Text, nodes
and nesting are capped, hence so is the time of a call.

Evaluation is total, as in IEEE 754: 1/0 is inf, log(-1) is nan, a variable that is not there is nan. Who uses a result
checks that it is finite, and keeps the last good one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from pipelines.exprmath import CONSTANTS, FUNCTIONS, INFIX, Code, Compare, Function, bits, invert, negate

MAX_LENGTH = 1024
MAX_NODES = 256
MAX_DEPTH = 32

LIVE = frozenset({"t", "f", "time", "fps", "seed", "strength", "beat", "bar", "phase", "in."})
"""Variables of a running stream; `in.` admits every input channel, `in.kick`."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*(?:\.\w+)*)"
    r"|(?P<sign>\*\*|//|<=|>=|==|!=|[-+*/%<>&|^~(),])|(?P<end>$))",
    re.ASCII,
)
_NOT, _UNARY, _POWER = 3, 9, 10
_BINDS = {
    "or": 1, "and": 2, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4, "|": 5, "^": 6, "&": 6.5,
    "+": 7, "-": 7, "*": 8, "/": 8, "//": 8, "%": 8, "**": _POWER,
}  # fmt: skip
"""How tightly an operator binds; Python's order, which is numexpr's too."""


class ExprError(ValueError):
    """An expression that can't be read. `str(error)` says what and where."""


class Expr:
    """A compiled expression. Calling it costs microseconds and never raises."""

    __slots__ = ("_run", "names", "text")

    def __init__(self, text: str, run: Code, names: frozenset[str]) -> None:
        self.text, self._run, self.names = text, run, names

    @property
    def constant(self) -> bool:
        """Whether it gives the same number for ever."""
        return not self.names

    def __call__(self, values: Mapping[str, float]) -> float:
        """The number for these values of the variables; may be inf or nan."""
        return self._run(values)

    def __repr__(self) -> str:
        return f"Expr({self.text!r})"


def compile_expr(text: str, names: Collection[str] = LIVE) -> Expr:
    """Read `text`; it may use `names`, where one that ends in a dot admits all that begin so. Raises ExprError."""
    if len(text) > MAX_LENGTH:
        raise ExprError(f"an expression has at most {MAX_LENGTH} characters")
    reader = _Reader(text, names)
    part = reader.whole()
    return Expr(text, part.run, frozenset(reader.used))


class _Part(NamedTuple):
    """A compiled piece."""

    run: Code
    fixed: bool
    """Whether no variable is in it."""
    truth: bool = False
    """Whether it is a comparison's outcome, so that `~` and `&` are logic and not bits."""


class _Reader:
    """Recursive descent with binding powers (Pratt 1973), straight to closures."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self.text, self.names = text, names
        self.prefixes = tuple(name for name in names if name.endswith("."))
        self.used: set[str] = set()
        self.nodes = self.depth = 0
        self.kind, self.sign, self.start, self.end = "", "", 0, 0
        self.advance()

    def whole(self) -> _Part:
        if self.kind == "end":
            raise ExprError("the expression is empty")
        part = self.read(0)
        if self.kind != "end":
            raise self.wrong(f"{self.sign} was not expected")
        return part

    def wrong(self, what: str) -> ExprError:
        return ExprError(f"{what} (character {self.start + 1})")

    def advance(self) -> None:
        found = _TOKEN.match(self.text, self.end)
        if found is None:
            rest = self.text[self.end :]
            self.start = self.end + len(rest) - len(rest.lstrip())
            raise self.wrong(f"{rest.lstrip()[:1]!a} has no meaning here")
        self.kind = str(found.lastgroup)
        self.sign, self.start, self.end = found[self.kind], found.start(self.kind), found.end()

    def expect(self, sign: str) -> None:
        if self.sign != sign:
            raise self.wrong(f"{sign} is missing")
        self.advance()

    def node(self, run: Code, *parts: _Part, truth: bool = False) -> _Part:
        """A piece made of `parts`; worked out now where none of them has a variable."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ExprError(f"an expression has at most {MAX_NODES} parts")
        if any(not part.fixed for part in parts):
            return _Part(run, False, truth)
        value = run({})
        return _Part(lambda _: value, True, truth)

    def read(self, power: float) -> _Part:
        """As far as operators bind tighter than `power`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExprError(f"an expression nests at most {MAX_DEPTH} deep")
        left = self.prefix()
        while _BINDS.get(self.sign, 0) > power:
            left = self.infix(left)
        self.depth -= 1
        return left

    def infix(self, left: _Part) -> _Part:
        sign = self.sign
        if isinstance(INFIX.get(sign), Compare):
            return self.compare(left)
        self.advance()
        right = self.read(_BINDS[sign] if sign != "**" else _UNARY - 1)
        if sign in ("&", "|", "^"):
            truth = left.truth and right.truth
            return self.node(bits(sign, left.run, right.run), left, right, truth=truth)
        return self.node(INFIX[sign](left.run, right.run), left, right, truth=sign in ("and", "or"))

    def compare(self, left: _Part) -> _Part:
        """`0 < t < 5` is both comparisons at once, as in mathematics and Python."""
        found: _Part | None = None
        while isinstance(make := INFIX.get(self.sign), Compare):
            sign = self.sign
            self.advance()
            right = self.read(_BINDS[sign])
            this = self.node(make(left.run, right.run), left, right, truth=True)
            found = this if found is None else self.node(INFIX["and"](found.run, this.run), found, this, truth=True)
            left = right
        assert found is not None
        return found

    def prefix(self) -> _Part:
        sign, kind = self.sign, self.kind
        if kind == "end":
            raise self.wrong("the expression ends too early")
        if kind == "number":
            value = float(sign)
            self.advance()
            return self.node(lambda _: value)
        if kind == "name" and sign != "not":
            self.advance()
            return self.call(sign) if self.sign == "(" else self.name(sign)
        if sign not in ("(", "-", "+", "~", "not"):
            raise self.wrong(f"{sign} was not expected")
        self.advance()
        if sign == "(":
            part = self.read(0)
            self.expect(")")
            return part
        part = self.read(_NOT if sign == "not" else _UNARY)
        if sign == "+":
            return part
        truth = sign == "not" or (sign == "~" and part.truth)
        return self.node(negate(part.run) if sign == "-" else invert(part.run, truth), part, truth=truth)

    def name(self, name: str) -> _Part:
        if name in CONSTANTS:
            value = CONSTANTS[name]
            return self.node(lambda _: value)
        if not name.endswith(".") and (name in self.names or name.startswith(self.prefixes)):
            self.used.add(name)
            return self.node(_variable(name), _Part(_variable(name), False))
        known = ", ".join(sorted(f"{n}<name>" if n.endswith(".") else n for n in self.names)) or "none"
        raise ExprError(f"{name[:40]!a} is no variable; there are {known}")

    def call(self, name: str) -> _Part:
        function = FUNCTIONS.get(name)
        if function is None:
            raise ExprError(f"{name[:40]!a} is no function; docs/prompts.md lists them")
        self.advance()
        parts: list[_Part] = []
        while self.sign != ")":
            if parts:
                self.expect(",")
            parts.append(self.read(0))
        self.advance()
        _check_count(name, function, len(parts))
        return self.node(function.make(*(part.run for part in parts)), *parts)


def _check_count(name: str, function: Function, count: int) -> None:
    if not function.least <= count <= function.most:
        wanted = f"{function.least}" if function.least == function.most else f"{function.least} or more"
        raise ExprError(f"{name} takes {wanted} argument{'s' if wanted != '1' else ''}, not {count}")


def _variable(name: str) -> Callable[[Mapping[str, float]], float]:
    nan = math.nan

    def run(values: Mapping[str, float]) -> float:
        try:
            return float(values[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            return nan

    return run
