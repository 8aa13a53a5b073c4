"""A prompt and its negative, read: which texts to encode, and how they are mixed at each moment.

Order of reading: `--neg`, tags and styles, then the list (`a:0.7 | b:0.3`, or Deforum's weights), then `AND`, then
mathematics in the text, then editing and alternation. What is left is attention, which the text encoder reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pipelines.expr import Expr
from pipelines.params import PromptGrammar
from pipelines.promptlang import compose
from pipelines.promptlang.cast import MAX_TAGS
from pipelines.promptlang.compose import Sides, Template, Weighted
from pipelines.promptlang.editing import Tree, parse_edits, render, still
from pipelines.promptlang.styles import Styles, styled
from pipelines.promptlang.tags import Tag, take_tags

MAX_PARTS = 16
"""Prompts that are blended at once, each side."""
NETWORKS = frozenset({"lora", "lyco", "hypernet"})


class Line:
    """One text of several, with its weight."""

    def __init__(self, text: str, weight: float | Expr, share: float, notes: list[str]) -> None:
        self._template, self._weight, self._share = Template(text, notes), weight, share
        self._tree: Tree | None = parse_edits(self._template({})) if self._template.still else None

    @property
    def still(self) -> bool:
        """Whether text and weight are always the same."""
        return self._tree is not None and still(self._tree) and not isinstance(self._weight, Expr)

    @property
    def flows(self) -> bool:
        """Whether mathematics in the text makes it another one from frame to frame."""
        return self._tree is None

    @property
    def steps(self) -> bool:
        """Whether the text changes from step to step."""
        return self._tree is not None and not still(self._tree)

    def text(self, step: int, steps: int, values: Mapping[str, float], endless: bool) -> str:
        tree = self._tree if self._tree is not None else parse_edits(self._template(values))
        return render(tree, step, steps, endless).strip()

    def weight(self, values: Mapping[str, float]) -> float:
        return self._share * (self._weight(values) if isinstance(self._weight, Expr) else self._weight)


class Plan(NamedTuple):
    """A prompt and its negative, read once. Holds no state."""

    positive: tuple[Line, ...]
    negative: tuple[Line, ...]
    tags: tuple[Tag, ...]
    """Networks that the prompt asks for."""
    notes: tuple[str, ...]
    """Sentences on what was not read as it looks."""

    @property
    def still(self) -> bool:
        """Whether every moment is like the first."""
        return all(line.still for line in (*self.positive, *self.negative))

    @property
    def steps(self) -> bool:
        """Whether there are texts that change from step to step, and none that changes all the time."""
        lines = (*self.positive, *self.negative)
        return any(line.steps for line in lines) and not any(line.flows for line in lines)

    def at(
        self, step: int, steps: int, values: Mapping[str, float], normalize: bool = True, endless: bool = True
    ) -> Sides | None:
        """The texts at `step` (from 1) of `steps`, with weights above 0; None where a weight is no finite number.

        `endless`: steps are a stream's, and go on after the last; otherwise a picture's sampling steps.
        """
        lines = (*self.positive, *self.negative)
        weights = [line.weight(values) for line in lines]
        if not all(map(math.isfinite, weights)):
            return None
        said = [(line.text(step, steps, values, endless), w) for line, w in zip(lines, weights, strict=True)]
        wanted, avoided = said[: len(self.positive)], said[len(self.positive) :]
        avoided = [part for part in avoided if part[0]] + [(text, -weight) for text, weight in wanted if weight < 0]
        positive = compose.balance(wanted, normalize).positive
        negative = compose.balance(avoided, normalize).positive
        return Sides(positive or _NOTHING, negative or _NOTHING)

    def texts(self, step: int, steps: int, values: Mapping[str, float], endless: bool = True) -> set[str]:
        """What `at` may speak of at this step, whatever the weights are then."""
        lines = (*self.positive, *self.negative)
        found = {line.text(step, steps, values, endless) for line in lines}
        return found if len(lines) == 2 and self.still else {*found, ""}

    def evenly(self, step: int, steps: int, values: Mapping[str, float]) -> Sides:
        """`at` with all weights alike, for a start at which one of them is no number."""
        said = [tuple((line.text(step, steps, values, True), 1.0) for line in side) for side in (self[0], self[1])]
        return Sides(compose.balance(said[0]).positive, compose.balance(said[1]).positive)


_NOTHING = (("", 1.0),)


def read_prompt(prompt: str, negative: str, styles: Styles, grammar: PromptGrammar = "auto") -> Plan:
    """Read a prompt and its negative. Never fails."""
    notes: list[str] = []
    prompt, avoided = compose.split_negative(prompt)
    prompt, tags = take_tags(prompt)
    negative, more = take_tags(", ".join(part.strip() for part in (negative, avoided) if part.strip()))
    networks: list[Tag] = []
    for tag in (*tags, *more):
        if tag.kind == "style" and tag.name.lower() in styles:
            prompt, negative = styled(styles[tag.name.lower()], prompt.strip(), negative)
        elif tag.kind in NETWORKS:
            networks.append(tag)
        else:
            what = "style" if tag.kind == "style" else "kind of tag"
            notes.append(f"there is no {what} {(tag.name if tag.kind == 'style' else tag.kind)[:40]!a}")
    prompt, tags = take_tags(prompt)  # a style may name networks too
    negative, more = take_tags(negative)
    networks = _capped_tags([*networks, *(tag for tag in (*tags, *more) if tag.kind in NETWORKS)], notes)
    positive = [_anded(part, notes) for part in _parts(prompt, grammar, notes)]
    lines = [Line(part.text, part.weight, 1.0, notes) for part in _parts(negative, grammar, notes)]
    sides = [_capped(side, notes) for side in ([line for some in positive for line in some], lines)]
    return Plan(sides[0], sides[1], tuple(networks), tuple(dict.fromkeys(notes)))


def _capped_tags(tags: list[Tag], notes: list[str]) -> list[Tag]:
    if len(tags) > MAX_TAGS:
        notes.append(f"{len(tags)} networks are named, at most {MAX_TAGS} can be: the last are left out")
    if any(len(tag.values) > 2 or dict(tag.named).keys() - {"te", "unet"} for tag in tags):
        notes.append("of a network's numbers, te and unet are read, and no others")
    return tags[:MAX_TAGS]


def _anded(part: Weighted, notes: list[str]) -> list[Line]:
    """The prompts around AND, which a negative prompt does not know."""
    ands = compose.split_and(part.text)
    total = sum(abs(weight) for _, weight in ands) or 1.0
    if len(ands) > 1:
        notes.append("AND is blended into one prompt: a live frame runs the network once")
    return [Line(text, part.weight, weight / total, notes) for text, weight in ands]


def _capped(lines: list[Line], notes: list[str]) -> tuple[Line, ...]:
    if len(lines) > MAX_PARTS:
        notes.append(f"{len(lines)} prompts are blended, at most {MAX_PARTS} can be: the last are left out")
    return tuple(lines[:MAX_PARTS])


def _parts(text: str, grammar: PromptGrammar, notes: list[str]) -> list[Weighted]:
    listed = compose.split_list(text, notes) if grammar == "auto" else None
    if listed:
        return listed
    if grammar == "deforum" or (grammar == "auto" and compose.has_math_weights(text)):
        return compose.split_deforum(text, notes) or [Weighted("", 1.0)]
    if grammar == "auto" and len(compose.top_level(text)) > 1:
        notes.append("| is text here: a list has weights, as in a:1 | b:1")
    return [Weighted(text, 1.0)]
