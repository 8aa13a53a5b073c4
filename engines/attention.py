"""Attention in a prompt, as AUTOMATIC1111's web UI reads it: which words weigh more, and where a chunk ends.

`(x)` weighs 1.1 times as much, `[x]` 1/1.1 times, `(x:1.4)` 1.4 times, and nesting multiplies. `\\(` is a bracket as
such. A bracket that is never closed holds to the end, one that was never opened is text: every text has a meaning.
`BREAK` ends a chunk.
"""

from __future__ import annotations

import re
from typing import NamedTuple

UP, DOWN = 1.1, 1 / 1.1
_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]\\]?)"
    r"|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)"
    r"|(?P<bracket>[()\[\]])"
    r"|(?:[^\\()\[\]:]+|:)"
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


class Piece(NamedTuple):
    """A run of text that weighs the same."""

    text: str
    weight: float

    @property
    def breaks(self) -> bool:
        """Whether this is no text but the end of a chunk."""
        return self.text == "BREAK" and self.weight < 0


def parse_attention(prompt: str) -> list[Piece]:
    """The prompt in runs of equal weight. Never fails, never empty; `Piece("BREAK", -1)` stands for a break."""
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def scale(since: int, factor: float) -> None:
        weights[since:] = [weight * factor for weight in weights[since:]]

    def say(text: str, weight: float = 1.0) -> None:
        texts.append(text)
        weights.append(weight)

    for found in _TOKEN.finditer(prompt):
        token, bracket = found[0], found["bracket"]
        if found["escaped"] is not None:
            say(found["escaped"])
        elif found["weight"] is not None and opened["("]:
            scale(opened["("].pop(), float(found["weight"]))
        elif bracket in opened:
            opened[bracket].append(len(texts))
        elif bracket == ")" and opened["("]:
            scale(opened["("].pop(), UP)
        elif bracket == "]" and opened["["]:
            scale(opened["["].pop(), DOWN)
        else:
            for n, part in enumerate(_BREAK.split(token)):
                if n:
                    say("BREAK", -1.0)
                say(part)
    for since in opened["("]:
        scale(since, UP)
    for since in opened["["]:
        scale(since, DOWN)
    return _merged(texts, weights) or [Piece("", 1.0)]


def _merged(texts: list[str], weights: list[float]) -> list[Piece]:
    out: list[Piece] = []
    for text, weight in zip(texts, weights, strict=True):
        if out and out[-1].weight == weight:
            out[-1] = Piece(out[-1].text + text, weight)
        else:
            out.append(Piece(text, weight))
    return out
