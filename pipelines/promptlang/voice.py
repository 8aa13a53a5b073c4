"""A prompt that is being shown: what it says at each moment of the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch

from engines.base import Text
from pipelines.params import Params, PromptBlend, PromptCurve, PromptGrammar
from pipelines.promptlang.blend import Cond, between, blend, eased
from pipelines.promptlang.compose import Sides
from pipelines.promptlang.plan import Plan
from pipelines.promptlang.timeline import Place

AHEAD = 3
"""So many steps ahead, the texts to come are encoded."""
Find = Callable[[str], Text | None]


class Manner(NamedTuple):
    """How prompts are read and moved. All but `grammar` and `clip_skip` act at once and restart nothing."""

    grammar: PromptGrammar = "auto"
    """auto: AUTOMATIC1111's with weighted lists, and Deforum's where a weight is mathematics."""
    clip_skip: int = 1
    """Which layer of the text encoder from the end, 1 the last."""
    curve: PromptCurve = "linear"
    """How a cross-fade runs over its time."""
    way: PromptBlend = "lerp"
    """How embeddings are mixed, in fades and in lists."""
    normalize: bool = True
    """Whether the weights of a list add up to 1 on either side."""
    rate: float = 1.0
    """Steps a second, for prompt editing and alternation on a stream."""
    steps: int = 10
    """All steps, of which an editing point such as 0.5 is a share."""
    fps: float = 15.0
    """Deforum's frames a second: `t` in mathematics counts them."""

    @classmethod
    def of(cls, params: Params) -> Manner:
        return cls(
            params.prompt_grammar,
            params.clip_skip,
            params.prompt_curve,
            params.prompt_blend,
            params.prompt_normalize,
            params.prompt_rate,
            params.prompt_span,
            params.prompt_fps,
        )


class Voice:
    """A plan in time. Belongs to the frame's thread."""

    def __init__(self, plan: Plan, opening: Sides, find: Find) -> None:
        """`opening`: what it says first. `find`: the embedding of a text, None while there is none; it has those of
        the opening."""
        self.plan, self._find = plan, find
        self.sides = opening
        """What is shown."""
        self.texts: tuple[Text, ...] = ()
        """The encoded positive prompts of `sides`, the heaviest first."""
        self.missing: set[str] = set()
        """Texts that are to be encoded."""
        self.step = 0
        self.faded = 1.0
        """How far what it said last has faded in, 0..1."""
        self._cond: Cond = ()
        self._next: Sides | None = None
        self._mixed: tuple[PromptBlend, bool] | None = None
        self._from: Cond | None = None
        self._turned = self._fade = 0.0

    def cond(self, place: Place, values: Mapping[str, float], manner: Manner, fade: float) -> Cond:
        """The embeddings at this place of the prompt's time, negative's row first, [2, ...]. `values`: live variables.

        A text that is not encoded yet, or a weight that is no number, leaves what is shown as it is. From step to step
        it fades over `fade` seconds, but never longer than half a step.
        """
        seconds, mixed = place.seconds, (manner.way, manner.normalize)
        values = {"t": place.frames, "time": seconds, "fps": manner.fps, **values}
        if mixed != self._mixed:
            self._mixed = mixed
            anew = self.plan.at(place.step, manner.steps, values, manner.normalize) if self._cond else None
            self._say(anew if anew and self._knows(anew) else self.sides, seconds, manner, 0.0)
        if not self.plan.still:
            self._follow(place, values, manner, fade)
        seen = self._seen(seconds, manner)
        if seconds - self._turned >= self._fade:
            self._from = None
        return seen

    def _follow(self, place: Place, values: Mapping[str, float], manner: Manner, fade: float) -> None:
        step = place.step
        self._turn(self.plan.at(step, manner.steps, values, manner.normalize), place.seconds, manner, fade)
        if self.plan.steps and step != self.step:
            for ahead in range(step + 1, step + 1 + AHEAD):
                self._want(self.plan.texts(ahead, manner.steps, values))
        self.step = step

    def _turn(self, sides: Sides | None, seconds: float, manner: Manner, fade: float) -> None:
        """To `sides`, if they are encoded; or else to what was wanted before, once that is. So a text that changes
        faster than it can be encoded is shown as often as it can be."""
        if sides is None or sides == self.sides:
            return
        if self._knows(sides):
            self._next = None
            self._say(sides, seconds, manner, fade)
            return
        if self._next is None or self.plan.steps:
            self._next = sides
        elif self._knows(self._next):
            self._say(self._next, seconds, manner, fade)
            self._next = sides
        self._want(_texts(self._next))

    @property
    def now(self) -> tuple[str, ...]:
        """The texts that are shown."""
        return tuple(_texts(self.sides))

    @property
    def waits(self) -> bool:
        """Whether it says what it said before, since what is to be said now is not encoded yet."""
        return self._next is not None

    def _knows(self, sides: Sides) -> bool:
        return all(self._find(text) is not None for text in _texts(sides))

    def _want(self, texts: Iterable[str]) -> None:
        self.missing |= {text for text in texts if self._find(text) is None}

    def _say(self, sides: Sides, seconds: float, manner: Manner, fade: float) -> None:
        found = {text: said for text in _texts(sides) if (said := self._find(text)) is not None}
        rows = [blend([(found[text].cond, weight) for text, weight in side], manner.way) for side in sides]
        if self.plan.steps and fade > 0.0 and _texts(sides) != _texts(self.sides):
            self._from = self._seen(seconds, manner)
            self._turned, self._fade = seconds, min(fade, 0.5 / max(manner.rate, 1e-3))
        self._cond = tuple(torch.cat(pair) for pair in zip(rows[1], rows[0], strict=True))
        self.sides = sides
        heaviest = sorted(sides.positive, key=lambda part: -part[1])
        self.texts = tuple(found[text] for text, _ in heaviest)

    def _seen(self, seconds: float, manner: Manner) -> Cond:
        if self._from is None:
            self.faded = 1.0
            return self._cond
        self.faded = w = min(1.0, max(0.0, (seconds - self._turned) / self._fade))
        return between(self._from, self._cond, eased(w, manner.curve), manner.way)

    @property
    def settled(self) -> bool:
        """Whether it will always say what it says now."""
        return self.plan.still and self._from is None

    def parts(self, digits: int) -> str:
        """What is said at this moment with its weights, if it is several things."""
        parts = self.sides.positive
        return " | ".join(f"{text}:{weight:.{digits}f}" for text, weight in parts) if len(parts) > 1 else ""

    def figures(self) -> dict[str, float | str]:
        """What is said at this moment, for telemetry: how long it is, and what of it the model does not know."""
        return {
            "prompt.parts": self.parts(2),
            "prompt.tokens": float(max((text.tokens for text in self.texts), default=0)),
            "prompt.unknown": " ".join(dict.fromkeys(word for text in self.texts for word in text.unknown)),
            "prompt.step": float(self.step),
        }


def _texts(sides: Sides) -> list[str]:
    return [text for side in sides for text, _ in side]
