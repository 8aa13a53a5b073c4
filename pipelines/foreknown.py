"""What networks make of steps and prompts, kept from frame to frame in buffers whose addresses hold still.

It is computed before a frame, and only where something it depends on has changed: the steps' times, the prompts, the
denoiser's weights. Where it is not up to date, a frame computes it for itself: it is never wrong, only slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import ref

import torch
from torch import Tensor

from engines.base import Nets
from engines.given import Ahead, Known, ahead_of
from pipelines.schedule import MAX_STEPS

if TYPE_CHECKING:
    from pipelines.knobs import Knobs

Part = Literal["times", "texts"]
PARTS: tuple[Part, ...] = ("times", "texts")


class Facts(NamedTuple):
    """What decides it, as the host knows it."""

    times: tuple[object, ...]
    """Of the steps."""
    guidance: float
    said: int
    """Which prompts: counts up."""
    both: bool
    """Whether the negative prompt is read, too."""


class Kept:
    """Of one network."""

    def __init__(self, net: object, ahead: Ahead, length: int) -> None:
        """`length`: tokens of a prompt."""
        self.net, self.ahead = ref(net), ahead
        self._times, self._texts = ahead.room(MAX_STEPS, length)
        self._stamps: dict[Part, tuple[object, ...]] = {}
        self._views: dict[tuple[int, int], Known] = {}

    def current(self, part: Part, facts: Facts) -> bool:
        """Whether it is up to date."""
        return self._stamps.get(part) == self._stamp(part, facts)

    def stamp(self, part: Part, facts: Facts) -> None:
        """It is, as soon as the device has done what was queued."""
        self._stamps[part] = self._stamp(part, facts)

    def compute(self, part: Part, knobs: Knobs) -> None:
        """Queue it."""
        rows = slice(0 if knobs.facts.both else 1, None)
        cond = [side[rows] for side in knobs.both]
        if part == "times":
            t = knobs.times
            room = self._times[: len(t), rows] if self.ahead.pooled else self._times[: len(t)]
            room.copy_(self.ahead.times(t, cond, knobs.guidance))
        elif self._texts.numel():
            self._texts[rows].copy_(self.ahead.reads(cond[0]))

    def known(self, step: int, batch: int) -> Known:
        """Views. `batch`: 1 for the prompt's side, 2 for both."""
        if (step, batch) not in self._views:
            times = self._times[step, 2 - batch :] if self.ahead.pooled else self._times[step]
            self._views[step, batch] = Known(times, self.ahead.views(self._texts[2 - batch :]))
        return self._views[step, batch]

    def _stamp(self, part: Part, facts: Facts) -> tuple[object, ...]:
        ahead, prompts = self.ahead, (facts.said, facts.both)
        if part == "texts":
            return (ahead.version(), *prompts)
        found = (ahead.version(), facts.times, facts.guidance if ahead.guided else None)
        return (*found, *prompts) if ahead.pooled else found


class Foreknown:
    """One stream's networks', each as long as it lives. All but `look` belongs to the frame's thread, or works on what
    nobody else has."""

    def __init__(self, length: int, sure: bool = False) -> None:
        """`length`: tokens of a prompt. `sure`: see `promised`."""
        self._length, self._sure = length, sure
        self._kept: dict[int, Kept] = {}

    def promised(self) -> Foreknown:
        """The same buffers, for a frame that is recorded: what fills them is always played before it, so that what the
        host knows now is not asked."""
        made = Foreknown(self._length, sure=True)
        made._kept = self._kept
        return made

    def make(self, knobs: Knobs, nets: Nets) -> None:
        """Have buffers for all networks of this mode."""
        for net, ahead in _networks(knobs, nets):
            if self._find(net) is None:
                alive = {key: kept for key, kept in self._kept.items() if kept.net() is not None}
                self._kept = {**alive, id(net): Kept(net, ahead, self._length)}

    def parts(self, knobs: Knobs, nets: Nets) -> tuple[Part, ...]:
        """What there is to compute in this mode."""
        return PARTS if self._used(knobs, nets) else ()

    def due(self, knobs: Knobs, nets: Nets) -> list[Part]:
        """What has to be computed before this frame."""
        self.make(knobs, nets)
        kept, facts = self._used(knobs, nets), knobs.facts
        return [part for part in PARTS if not all(each.current(part, facts) for each in kept)]

    @torch.inference_mode()
    def compute(self, part: Part, knobs: Knobs, nets: Nets) -> None:
        """Queue it for all networks of this mode. Capturable, after the first time."""
        for kept in self._used(knobs, nets):
            kept.compute(part, knobs)

    def done(self, part: Part, knobs: Knobs, nets: Nets) -> None:
        """It has been queued."""
        for kept in self._used(knobs, nets):
            kept.stamp(part, knobs.facts)

    def look(self, net: object, step: int, x: Tensor, knobs: Knobs) -> dict[str, Any]:
        """What `net` is given besides at this step of a frame, by name; nothing where it is not up to date, or has no
        use for it. x: [B, ...]."""
        kept = self._find(net)
        if kept is None or not (self._sure or all(kept.current(part, knobs.facts) for part in PARTS)):
            return {}
        return {"known": kept.known(step, len(x))}

    def refresh(self, knobs: Knobs, nets: Nets) -> None:
        """Before a frame that is painted operation by operation."""
        for part in self.due(knobs, nets):
            self.compute(part, knobs, nets)
            self.done(part, knobs, nets)

    def _used(self, knobs: Knobs, nets: Nets) -> list[Kept]:
        found = (self._find(net) for net, _ in _networks(knobs, nets))
        return [kept for kept in found if kept is not None]

    def _find(self, net: object) -> Kept | None:
        kept = self._kept.get(id(net))
        return kept if kept is not None and kept.net() is net else None


def _networks(knobs: Knobs, nets: Nets) -> Iterator[tuple[object, Ahead]]:
    if knobs.mode.work != "bypass":
        for net in (nets.unet, *(nets.controlnets[unit.net] for unit in knobs.mode.units)):
            ahead = ahead_of(net)
            if ahead is not None:
                yield net, ahead
