"""Which of several senders a name means."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def pick(names: Sequence[str], wanted: str, own: Collection[str] = ()) -> str | None:
    """A whole name before a part of one, in any case, then the earlier in the list; any but `own` for no name."""
    word = wanted.casefold()
    found = [name for name in names if name not in own and word in name.casefold()]
    return min(found, key=lambda name: name.casefold() != word, default=None)


def waiting(names: Sequence[str], wanted: str, own: Collection[str] = ()) -> str:
    """The sentence while `pick` finds nobody."""
    others = [name for name in names if name not in own]
    there = f"there are {', '.join(others[:5])}" if others else "there is none"
    return f"waiting for a sender {wanted!r} ({there})" if wanted else f"waiting for a sender ({there})"
