"""Several prompts in one text: `AND`, `--neg`, weighted lists, and Deforum's weights with mathematics.

Each function is total: what it does not know is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipelines.expr import LIVE, Expr, ExprError, compile_expr

NAMES = LIVE | {"s", "max_f"}
"""What mathematics in a prompt may use; `s` is Deforum's seed, `max_f` its last frame."""
_AND = re.compile(r"\bAND\b")
_AND_WEIGHT = re.compile(r"(?P<text>.*?)(?:\s*:\s*(?P<weight>[-+]?(?:\d+\.?\d*|\.\d+)))?\s*", re.DOTALL)
_LISTED = re.compile(r"(?P<text>.*?)\s*:\s*(?P<weight>[-+]?(?:\d+\.?\d*|\.\d+)|`[^`]*`)\s*", re.DOTALL)
_DEFORUM = re.compile(r"(?P<text>(?:\\:|[^:])+)(?::+(?P<weight>-?\d+(?:\.\d+)?|`[^`]*`)?\s*|\Z)", re.DOTALL)
_MATH = re.compile(r"`([^`]*)`")


class Weighted(NamedTuple):
    """One prompt of several."""

    text: str
    weight: float | Expr


class Sides(NamedTuple):
    """What a picture should become, and what it should stay away from: prompts with weights above 0."""

    positive: tuple[tuple[str, float], ...]
    negative: tuple[tuple[str, float], ...]


def split_and(prompt: str) -> list[tuple[str, float]]:
    """`a cat :1.2 AND a dog`, as AUTOMATIC1111's composable diffusion reads it."""
    out = []
    for part in _AND.split(prompt):
        found = _AND_WEIGHT.fullmatch(part)
        assert found is not None
        out.append((found["text"], float(found["weight"] or 1.0)))
    return out


def split_negative(prompt: str) -> tuple[str, str]:
    """`a cat --neg blurry`, as Deforum's extension reads it."""
    parts = prompt.split("--neg")
    return parts[0], parts[1] if len(parts) > 1 else ""


def split_list(prompt: str, notes: list[str]) -> list[Weighted] | None:
    """`a city:0.7 | a forest:0.3`; None if it is no list. One part at least has a weight, the others weigh 1."""
    parts = top_level(prompt)
    found = [_LISTED.fullmatch(part) for part in parts]
    if len(parts) < 2 or not any(found):
        return None
    return [
        Weighted(match["text"].strip(), weigh(match["weight"], notes)) if match else Weighted(part.strip(), 1.0)
        for part, match in zip(parts, found, strict=True)
    ]


def split_deforum(prompt: str, notes: list[str]) -> list[Weighted]:
    """``eggs:`cos(6.28*t/10)`, bacon:0.5``, as Deforum reads it: every colon ends a prompt, unless it is escaped."""
    return [
        Weighted(found["text"].replace("\\:", ":"), weigh(found["weight"] or "1", notes))
        for found in _DEFORUM.finditer(prompt)
    ]


def has_math_weights(prompt: str) -> bool:
    """Whether a weight is mathematics outside all brackets, which only Deforum's grammar has."""
    depth, quoted = 0, False
    for at, sign in enumerate(prompt):
        if sign == "`":
            if not quoted and depth <= 0 and prompt[:at].rstrip().endswith(":"):
                return True
            quoted = not quoted
        elif not quoted:
            depth += (sign in "([") - (sign in ")]")
    return False


def weigh(text: str, notes: list[str]) -> float | Expr:
    """A weight, a number or `` `mathematics` ``; 1, and a note, if it can't be read."""
    if not text.startswith("`"):
        return float(text)
    expr = read_math(text[1:-1], notes)
    return 1.0 if expr is None else expr({}) if expr.constant else expr


def read_math(text: str, notes: list[str]) -> Expr | None:
    try:
        return compile_expr(text, NAMES)
    except ExprError as error:
        notes.append(f"`{text[:40]}`: {error}")
        return None


class Template:
    """A text with mathematics in it, such as ``(neon:`1 + 0.3*sin(t)`)``, whose numbers are written out as they are."""

    def __init__(self, text: str, notes: list[str]) -> None:
        self._parts: list[str | Expr] = []
        at = 0
        for found in _MATH.finditer(text):
            expr = read_math(found[1], notes)
            if expr is not None:
                self._parts += [text[at : found.start()], expr]
                at = found.end()
        self._parts.append(text[at:])

    @property
    def still(self) -> bool:
        return len(self._parts) == 1

    def __call__(self, values: Mapping[str, float]) -> str:
        """The text with numbers to two places: each other text is another one to encode."""
        return "".join(part if isinstance(part, str) else f"{part(values):.2f}" for part in self._parts)


def balance(parts: Sequence[tuple[str, float]], normalize: bool = True) -> Sides:
    """Weights below 0 turn to the negative side, 0 drops out; `normalize`: each side adds up to 1, as in Deforum."""
    sides = []
    for sign in (1.0, -1.0):
        side = [(text, sign * weight) for text, weight in parts if sign * weight > 0]
        total = sum(weight for _, weight in side) if normalize else 1.0
        sides.append(tuple((text, weight / total) for text, weight in side))
    return Sides(*sides)


def top_level(prompt: str) -> list[str]:
    """`prompt` cut at each `|` outside brackets and mathematics."""
    out, start, depth, quoted, skip = [], 0, 0, False, False
    for at, sign in enumerate(prompt):
        if skip or sign == "\\":
            skip = not skip
        elif sign == "`":
            quoted = not quoted
        elif sign in "([" and not quoted:
            depth += 1
        elif sign in ")]" and not quoted:
            depth = max(0, depth - 1)
        elif sign == "|" and not quoted and not depth:
            out.append(prompt[start:at])
            start = at + 1
    return [*out, prompt[start:]]
