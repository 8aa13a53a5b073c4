"""Who acts in a prompt: the LoRAs that its tags name, with weights, as far as they are here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from engines.base import Lora
from pipelines.promptlang.tags import Tag

LORA_TAGS = frozenset({"lora", "lyco"})
MAX_TAGS = 16
"""Networks that one prompt may name."""
Words = tuple[tuple[str, float, int], ...]
"""LoRAs over the text encoder: id, weight in hundredths, and the how-manieth of that id it is; in order."""


Lent = tuple[tuple[Lora, float], ...]
"""The same as the encoder takes them."""


class Role(NamedTuple):
    """One LoRA's part."""

    id: str
    te: float
    unet: float


Cast = tuple[Role, ...]


def named(tags: Iterable[Tag]) -> list[str]:
    """The ids of the LoRAs that tags name: ids are lower case."""
    return list(dict.fromkeys(tag.name.lower() for tag in tags if tag.kind in LORA_TAGS))


def cast(tags: Iterable[Tag], here: Collection[str]) -> Cast:
    """Those that are here; one that is named twice counts twice."""
    roles: dict[str, Role] = {}
    for tag in tags:
        name = tag.name.lower()
        if tag.kind in LORA_TAGS and name in here:
            before = roles.get(name, Role(name, 0.0, 0.0))
            roles[name] = Role(name, before.te + tag.te, before.unet + tag.unet)
    return tuple(roles.values())


def fading(before: Mapping[str, float], after: Cast, w: float) -> dict[str, float]:
    """The denoiser's weights when a fade from `before` to `after` has come to w, 0 to 1."""
    wanted = {role.id: role.unet for role in after}
    if w >= 1.0:
        return wanted
    return {name: (1.0 - w) * before.get(name, 0.0) + w * wanted.get(name, 0.0) for name in {**before, **wanted}}
