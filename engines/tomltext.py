"""Values as TOML writes them."""

from __future__ import annotations

import json


def quoted(value: str | int | float) -> str:
    """A text, a number or a bool as a TOML value: JSON's escapes are TOML's, but for DEL, which JSON lets pass."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
