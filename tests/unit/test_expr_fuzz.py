"""Whatever text comes, the evaluator gives a float or an ExprError, soon."""

from __future__ import annotations

import math
import statistics
import sys
import time

import numpy as np
import pytest

from pipelines.expr import LIVE, ExprError, compile_expr
from pipelines.exprmath import CONSTANTS, FUNCTIONS, INFIX

PIECES = [
    *FUNCTIONS, *CONSTANTS, *LIVE, *INFIX, "in.kick", "in.a.b", "(", ")", "(", ")", ",", "~", "not ", "1", "0", "2.5",
    ".5", "1e308", "1e-320", "9999999999", "**9**9", " ", "\t", ".", "..", ":", ";", "'", '"', "[", "]", "{", "}", "@",
    "=", ":=", "\\", "`", "#", "\n", "\x00", "é", "π", "٣", "𝟏", "\ud800", "__class__", "__import__", "lambda", "if",
    "else", "for", "import os", "os.system", "exec", "eval", "None", "0x10", "1_000", "1j", "()", "a" * 50,
]  # fmt: skip
SOUND = (
    "0.5 + 0.2*sin(6.28*t/10)", "((0.11 * cos((120 / 240* 3.141 * (t + 0) / 24))**1 + 0)*(1 * cos(t/12)**0.3 + 1))",
    "where((beat % 4 < 1) & ~(in.kick > 0.5), smoothstep(0, 1, phase), max(min(t, 5), -1, log(f)))",
    "-t**2**-1 // 3 - +1 if 0 else not t or bar and 1 <= t != 2", "(-0.2+(-3)*(cos(3.141*(t)/35)**4))+((18)*(1+0))",
)  # fmt: skip
VALUES = {"t": 17.0, "f": 400.0, "beat": 9.25, "bar": 2.0, "phase": 0.25, "in.kick": 0.7}


def judge(text: str) -> float | None:
    """Seconds of one evaluation, None where the text is refused."""
    try:
        expr = compile_expr(text)
    except ExprError as error:
        said = str(error)
    else:
        began = time.perf_counter()
        got = expr(VALUES)
        took = time.perf_counter() - began
        assert type(got) is float
        return took
    assert len(said) < 300
    assert said.isprintable()
    return None


def random_text(rng: np.random.Generator) -> str:
    return "".join(PIECES[i] for i in rng.integers(len(PIECES), size=rng.integers(1, 40)))


def sound_text(rng: np.random.Generator, depth: int) -> str:
    """A random expression that is right, as a user might nest one."""
    kind = rng.random() if depth else 0.0
    if kind < 0.25:
        return str(rng.choice(["t", "beat", "in.kick", "2", "0.5", "pi", "1e9"]))
    parts = [sound_text(rng, depth - 1) for _ in range(3)]
    if kind < 0.65:
        return f"({parts[0]} {rng.choice(list(INFIX))} {parts[1]})"
    name = str(rng.choice(list(FUNCTIONS)))
    least = FUNCTIONS[name].least
    return f"{name}({', '.join(parts[:least])})"


def mutated(rng: np.random.Generator) -> str:
    text = SOUND[rng.integers(len(SOUND))]
    for _ in range(rng.integers(1, 4)):
        at, to = sorted(int(i) for i in rng.integers(len(text) + 1, size=2))
        kind = rng.integers(4)
        if kind == 0:
            text = text[:at] + PIECES[rng.integers(len(PIECES))] + text[at:]
        elif kind == 1:
            text = text[:at] + text[min(to, at + 8) :]
        elif kind == 2:
            text = text[:to] + text[at:to] * int(rng.integers(1, 4)) + text[to:]
        else:
            text = text[:at] + chr(int(rng.choice([rng.integers(128), rng.integers(0x11000)]))) + text[at + 1 :]
    return text


def check(count: int) -> tuple[int, list[float]]:
    rng = np.random.default_rng(27)
    seen = [judge(text) for make in (random_text, mutated) for text in (make(rng) for _ in range(count))]
    taken = [s for s in seen if s is not None]
    return len(seen) - len(taken), taken


def test_nothing_escapes_the_evaluator():
    refused, taken = check(2000)
    assert refused > 1000
    assert len(taken) > 100, "mutations must often be right, or they test the parser's first line alone"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_escapes_the_evaluator_in_a_hundred_thousand_of_each(amount):
    _, taken = check(amount(100_000, 10_000))
    assert statistics.median(taken) < 10e-6


@pytest.mark.slow
def test_an_expression_takes_microseconds_and_less_than_a_millisecond_to_read(amount):
    rng = np.random.default_rng(3)
    texts = [sound_text(rng, 4) for _ in range(amount(5000, 1000))]
    texts = [text for text in texts if 10 < len(text) < 256]
    reading, running = [], []
    for text in texts:
        began = time.perf_counter()
        expr = compile_expr(text)
        reading.append(time.perf_counter() - began)
        running.append(judge(text) or 0.0)
        assert not math.isnan(began)
        assert type(expr(VALUES)) is float
    print(f"read {statistics.median(reading) * 1e6:.0f} us, run {statistics.median(running) * 1e6:.1f} us (medians)")
    assert statistics.median(reading) < 1e-3
    assert statistics.median(running) < 10e-6


def test_reading_an_expression_runs_no_code():
    """Python's own audit: no source compiled, nothing imported, no file opened, whatever is typed."""
    events: list[str] = []
    watching = [True]

    def watch(event: str, _: object) -> None:
        if watching[0] and event in ("compile", "exec", "import", "open", "os.system", "subprocess.Popen"):
            events.append(event)

    sys.addaudithook(watch)
    rng = np.random.default_rng(1)
    texts = [*SOUND, *(random_text(rng) for _ in range(300)), "__import__('os').system('true')", "open('/etc/passwd')"]
    events.clear()
    for text in texts:
        judge(text)
    watching[0] = False
    assert not events
