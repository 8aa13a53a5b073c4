"""The expressions that people type: numexpr's meaning, and nothing but arithmetic."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from pipelines.expr import LIVE, MAX_DEPTH, MAX_LENGTH, MAX_NODES, ExprError, compile_expr
from pipelines.exprmath import FUNCTIONS

GOLDEN = Path(__file__).parent.parent / "golden" / "schedules.jsonl"
VALUES = {"t": 3.0, "f": 7.0, "beat": 2.25, "bar": 1.0, "phase": 0.25, "in.kick": 0.5}


def value(text: str, **values: float) -> float:
    return compile_expr(text)({**VALUES, **values})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2*3", 7),
        ("-2**2", -4),
        ("2**-1", 0.5),
        ("2**3**2", 512),
        ("(-8)**3", -512),
        ("7/2", 3.5),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        (".5 + 1. + 1e-1", 1.6),
        ("sin(pi/2)", 1),
        ("0.5+0.2*sin(6.28*t/10)", 0.5 + 0.2 * math.sin(1.884)),
        ("where(t<5, 1, 0.2)", 1),
        ("where(t>5, 1/0, 2)", 2),
        ("t > 1 & t == 3", 0),  # as in Python and numexpr: t > (1 & t) and (1 & t) == 3
        ("(t > 2) & (t < 4)", 1),
        ("~(t > 2)", 0),
        ("~5", -6),
        ("6 & 3", 2),
        ("6 | 3", 7),
        ("6 ^ 3", 5),
        ("1 < t <= 3", 1),
        ("3 < t <= 3", 0),
        ("not t > 5 and in.kick", 1),
        ("0 or phase", 1),
        ("max(1, t, 2) + min(t, 2)", 5),
        ("clip(5, 0, 1)", 1),
        ("smoothstep(0, 1, 0.25)", 0.15625),
        ("lerp(10, 20, phase)", 12.5),
        ("mod(-1, 4)", 3),
        ("fmod(-1, 4)", -1),
        ("fract(beat)", 0.25),
        ("hypot(3, 4) + arctan2(0, 1)", 5),
        ("abs(-t) + sign(-t)", 2),
        ("round(2.5) + floor(-0.5) + ceil(0.5) + trunc(-1.5)", 1),
        ("in.kick*beat + bar", 2.125),
        ("  t  ", 3),
    ],
)
def test_values(text, expected):
    assert value(text) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/0", math.inf),
        ("-1/0", -math.inf),
        ("0/0", math.nan),
        ("log(0)", -math.inf),
        ("log(-1)", math.nan),
        ("sqrt(-t)", math.nan),
        ("exp(1000)", math.inf),
        ("9**9**9", math.inf),
        ("(-9)**9999999", -math.inf),
        ("(-9)**9999998", math.inf),
        ("(-1)**0.5", math.nan),
        ("0**-1", math.inf),
        ("sinh(-1000)", -math.inf),
        ("arctanh(1)", math.inf),
        ("sin(1/0)", math.nan),
        ("floor(1/0)", math.inf),
        ("1e999", math.inf),
        ("t % 0", math.nan),
        ("~0.5", math.nan),
        ("in.gone + 1", math.nan),
    ],
)
def test_what_has_no_finite_value_gives_the_limit_or_nan(text, expected):
    assert value(text) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("1 +", "ends too early"),
        ("(1", r"\) is missing"),
        ("1)", "not expected"),
        ("sin", "no variable"),
        ("sin()", "takes 1 argument"),
        ("where(1, 2)", "takes 3"),
        ("2t", "not expected"),
        ("speed*2", "no variable"),
        ("in.", "no variable|no meaning"),
        ("print(1)", "no function"),
        ("__import__('os')", "no meaning|no function"),
        ("t.__class__", "no variable"),
        ("(1).real", "no meaning|not expected"),
        ("'a'*9", "no meaning"),
        ("[1]*9", "no meaning"),
        ("t if t else 1", "not expected"),
        ("lambda: 1", "no variable|no meaning"),
        ("t := 1", "no meaning"),
        ("f'{t}'", "no meaning|no variable"),
        ("１", "no meaning"),
        ("sin\u200b(1)", "no meaning|not expected"),
        ("1" * (MAX_LENGTH + 1), "characters"),
        ("+".join("t" * MAX_NODES), "parts"),
        ("(" * (MAX_DEPTH + 1) + "1", "deep"),
        ("-" * 500 + "1", "deep"),
        ("2**" * 100 + "2", "deep"),
        ("\x00", "no meaning"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(text, words):
    with pytest.raises(ExprError, match=words) as error:
        compile_expr(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_only_the_names_that_are_given_may_be_used():
    assert compile_expr("s + t", {"s", "t"})({"s": 1, "t": 2}) == 3
    assert compile_expr("in.kick + t", LIVE).names == {"in.kick", "t"}
    assert compile_expr("2*pi").constant
    for text, names in (("in.kick", {"t"}), ("t", set()), ("info", {"in."})):
        with pytest.raises(ExprError):
            compile_expr(text, names)


def test_what_a_caller_hands_over_stays_a_float():
    """Neither whole numbers without end nor an object's own operators get in."""
    got = compile_expr("t*t*t*t")({"t": 10**80})
    assert isinstance(got, float)
    assert got == math.inf
    assert math.isnan(compile_expr("t + 1")({"t": "1e"}))
    assert math.isnan(compile_expr("t + 1")({"t": 10**400}))


def test_functions_are_numpys():
    """Every function of one argument whose name numpy has, at ordinary points, edges and poles."""
    points = [-math.inf, -1e6, -2.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, 2.5, 1e6, math.inf, math.nan]
    compared = 0
    with np.errstate(all="ignore"):
        for name, function in FUNCTIONS.items():
            if function.most != 1 or not hasattr(np, name):
                continue
            for x in points:
                got = compile_expr(f"{name}(t)")({"t": x})
                assert got == pytest.approx(float(getattr(np, name)(np.float64(x))), rel=1e-12, nan_ok=True), (name, x)
                compared += 1
    assert compared > 25 * len(points)


class Tree:
    """A random expression as text, and its value by numpy."""

    def __init__(self, rng: np.random.Generator, depth: int) -> None:
        self.rng, self.depth = rng, depth

    def grow(self, depth: int) -> tuple[str, np.float64]:
        kind = self.rng.random() if depth else 0.0
        if kind < 0.2:
            name = str(self.rng.choice(["t", "beat", "2", "0.5", "10"]))
            return name, np.float64(VALUES.get(name) or float(name))
        (a, x), (b, y) = self.grow(depth - 1), self.grow(depth - 1)
        if kind < 0.6:
            sign, work = [
                ("+", np.add), ("-", np.subtract), ("*", np.multiply), ("/", np.divide), ("**", np.power),
                ("%", np.mod), ("<", np.less), (">=", np.greater_equal),
            ][self.rng.integers(8)]  # fmt: skip
            if sign == "**":  # of -inf, numpy's and C's differ
                a, x = f"abs({a})", abs(x)
            return f"({a}) {sign} ({b})", np.float64(work(x, y))
        if kind < 0.8:
            name, work = [("arctan2", np.arctan2), ("maximum", np.maximum), ("fmod", np.fmod)][self.rng.integers(3)]
            return f"{name}({a}, {b})", np.float64(work(x, y))
        name = str(self.rng.choice(["sin", "cos", "exp", "log", "sqrt", "abs", "floor", "tanh", "arcsin"]))
        return f"{name}({a})", np.float64(getattr(np, name)(x))


def test_random_trees_have_numpys_value():
    rng = np.random.default_rng(5)
    compared = 0
    with np.errstate(all="ignore"):
        for _ in range(1500):
            text, expected = Tree(rng, 4).grow(4)
            if len(text) <= MAX_LENGTH:
                got = compile_expr(text)(VALUES)
                assert got == pytest.approx(float(expected), rel=1e-9, abs=1e-12, nan_ok=True), text
                compared += 1
    assert compared > 1000


def test_schedules_of_real_shows_have_the_values_that_deforum_gives_them():
    """Those of a single expression, which needs no keyframes. Where numexpr has no number, Deforum fills in."""
    compared = 0
    for row in map(json.loads, GOLDEN.read_text().splitlines()):
        found = re.fullmatch(r"\s*0\s*:\s*\(([^:\"]*)\)\s*", row["schedule"])
        if not found or "a1111_ext" not in row:
            continue
        expr = compile_expr(found[1], {"t"})
        for t, expected in enumerate(row["a1111_ext"]):
            got = expr({"t": t})
            if math.isfinite(got):
                assert got == pytest.approx(expected, abs=1e-6), (row["schedule"], t)
                compared += 1
    assert compared > 10_000
