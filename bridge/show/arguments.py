"""What follows an address, from a stranger: checked for its type and size; and answers that fit a datagram."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bridge.errors import ControlError
from pipelines.params import MAX_TEXT_BYTES

Args = Sequence[object]
Answer = tuple[str | float, ...]


def count(args: Args, least: int, most: int) -> None:
    if not least <= len(args) <= most:
        raise ControlError(f"it takes {least if least == most else f'{least} to {most}'} arguments, not {len(args)}")


def text(args: Args, at: int) -> str:
    value = args[at] if at < len(args) else None
    if not isinstance(value, str) or len(value.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise ControlError(f"argument {at + 1} is text of up to {MAX_TEXT_BYTES} bytes")
    return value


def amount(args: Args, at: int) -> float:
    value = args[at] if at < len(args) else None
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise ControlError(f"argument {at + 1} is a finite number")
    return float(value)


def word(args: Args, at: int) -> str | float:
    """Text or a number: a cue's name or place, a time."""
    return text(args, at) if at < len(args) and isinstance(args[at], str) else amount(args, at)


def fitting(words: Sequence[str], most: int = 7000) -> Answer:
    """As many as one datagram holds."""
    out, size = [], 0
    for word in words:
        size += len(word.encode("utf-8", "replace")) + 8
        if size > most:
            break
        out.append(word)
    return tuple(out)
