"""Converters for the options that sources share; for `DriverSpec.take`, so a ValueError becomes the user's sentence."""

from __future__ import annotations

import math
from collections.abc import Callable

from bridge.frame import check_size


def fps(text: str) -> float:
    """Frames a second, 0.1 to 1000."""
    value = seconds(text)
    if not 0.1 <= value <= 1000:
        raise ValueError("expected frames a second, 0.1 to 1000")
    return value


def seconds(text: str) -> float:
    """A time in seconds, 0 or more."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("expected a number, 0 or more")
    return value


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """`1280x720` as (width, height)."""
    wide, _, tall = text.lower().partition("x")
    if not (wide.isdecimal() and tall.isdecimal()):
        raise ValueError("expected WIDTHxHEIGHT, for example 1280x720")
    wrong = check_size(int(wide), int(tall), 3)
    if wrong:
        raise ValueError(wrong)
    return int(wide), int(tall)


def choice(*allowed: str) -> Callable[[str], str]:
    """A converter that takes these words and no others."""

    def convert(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"expected {' or '.join(allowed)}")
        return text

    return convert
