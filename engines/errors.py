"""Errors of models and engines. Lowest layer, so that the bridge can catch them without torch."""

from __future__ import annotations


class ModelError(Exception):
    """A model can't be found, is refused, or is broken. `str(error)` is one sentence that a user can act on."""
