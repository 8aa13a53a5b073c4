"""What the next cue will ask for, so that the worker can make it ready beside the stream."""

from __future__ import annotations

import msgspec


class Coming(msgspec.Struct, frozen=True, array_like=True):
    """A hint: nothing depends on whether it comes."""

    texts: tuple[str, str] | None
    """Prompt and negative prompt; None if they stay."""
    controlnets: tuple[str, ...]
    """Ids that no unit names yet."""
    loras: tuple[str, ...] = ()
    """Ids that no slot names yet."""


NOTHING_COMES = Coming(None, ())
