"""Errors of models and engines. Lowest layer, so that the bridge can catch them without torch."""

from __future__ import annotations


class ModelError(Exception):
    """A model can't be found, is refused, or is broken. `str(error)` is one sentence that a user can act on."""


def first_line(error: BaseException, limit: int = 200) -> str:
    """What another library's error says, in one line of at most `limit` characters; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:limit]
