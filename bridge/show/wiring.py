"""Which controller does what, as the page shows it: said by MIDI, which knows, to pages, which only look."""

from __future__ import annotations

import msgspec


class Bound(msgspec.Struct, frozen=True):
    """One binding."""

    on: str
    """The control, `ch 1 cc 21`; empty while it is being learnt."""
    port: str
    """Part of its port's name; empty is any."""
    to: str
    """The address, without the prefix."""
    args: tuple[bool | int | float | str, ...]
    """What follows it: an act's arguments, or the one value that a press sets."""


class Wiring(msgspec.Struct, frozen=True):
    """All of them, as they are now."""

    bound: tuple[Bound, ...]
    learning: Bound | None = None
    """What the control that moves next is bound to."""
    by: str = ""
    """The page that asked for that, if it was one."""
