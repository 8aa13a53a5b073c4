"""`<lora:name:0.8>` and its like: what a prompt says about networks and styles, and not to the text encoder."""

from __future__ import annotations

import re
from typing import NamedTuple

_TAG = re.compile(r"<(\w+):([^<>]+)>")


class Tag(NamedTuple):
    """One tag, as AUTOMATIC1111's web UI reads it."""

    kind: str
    name: str
    values: tuple[str, ...] = ()
    """What follows the name, by position."""
    named: tuple[tuple[str, str], ...] = ()
    """What follows it as key=value."""

    @property
    def te(self) -> float:
        """Weight for the text encoder, 1 unless given."""
        return _number(dict(self.named).get("te") or self._at(0), 1.0)

    @property
    def unet(self) -> float:
        """Weight for the UNet: that for the text encoder unless given."""
        return _number(dict(self.named).get("unet") or self._at(1), self.te)

    def _at(self, index: int) -> str:
        return self.values[index] if index < len(self.values) else ""


def take_tags(prompt: str) -> tuple[str, tuple[Tag, ...]]:
    """The prompt without its tags, and the tags in order."""
    tags = tuple(_read(found[1], found[2]) for found in _TAG.finditer(prompt))
    return _TAG.sub("", prompt) if tags else prompt, tags


def _read(kind: str, text: str) -> Tag:
    name, *rest = text.split(":")
    named = tuple((key.strip(), value.strip()) for key, sign, value in (part.partition("=") for part in rest) if sign)
    return Tag(kind.lower(), name.strip(), tuple(part.strip() for part in rest if "=" not in part), named)


def _number(text: str, default: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return default
    return value if abs(value) <= 100.0 else default
