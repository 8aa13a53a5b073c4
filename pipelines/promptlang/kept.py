"""What a prompter keeps of prompts: how they were read, and what their texts were encoded to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from pipelines.params import PromptGrammar
from pipelines.promptlang.cast import Cast, Words
from pipelines.promptlang.compose import Sides
from pipelines.promptlang.plan import Plan, read_prompt
from pipelines.promptlang.styles import read_styles
from pipelines.promptlang.voice import Manner

KEPT = 128
"""Texts whose embeddings stay in memory: going back to one of them takes no time."""
START: Mapping[str, float] = {"t": 0.0, "f": 0.0, "time": 0.0}
Key = tuple[str, int, Words]
"""Of an embedding: the text, the layer that was read, and the LoRAs that acted on the encoder."""
_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Asked(NamedTuple):
    """What makes another plan or other embeddings."""

    prompt: str
    negative: str
    grammar: PromptGrammar
    skip: int


class Ready(NamedTuple):
    """A pair that was read."""

    plan: Plan
    opening: Sides
    """What it says first."""
    texts: tuple[str, ...]
    """What it may say first, whatever its weights are by then."""


class Goal(NamedTuple):
    """What is to be encoded before it can be shown."""

    asked: Asked
    cast: Cast = ()
    """The LoRAs that it names, as far as they are here."""
    words: Words = ()
    """All LoRAs that act on the text encoder."""
    now: tuple[str, ...] = ()
    """Besides what it says first: what the pair that is shown says at this moment, if it goes on with other LoRAs."""


def read(asked: Asked, styles: Path, manner: Manner) -> Ready:
    """Read a pair; `styles` is the file of the styles that it may name."""
    notes: list[str] = []
    tagged = "<style:" in f"{asked.prompt}{asked.negative}".lower()
    plan = read_prompt(asked.prompt, asked.negative, read_styles(styles, notes) if tagged else {}, asked.grammar)
    steps, normalize = manner.steps, manner.normalize
    opening = plan.at(1, steps, START, normalize) or plan.evenly(1, steps, START)
    texts = dict.fromkeys([text for side in opening for text, _ in side])
    texts |= dict.fromkeys(plan.texts(1, steps, START))
    return Ready(plan._replace(notes=(*notes, *plan.notes)), opening, tuple(texts))


def remember(kept: OrderedDict[_K, _V], new: Mapping[_K, _V]) -> None:
    """Put them in as the newest; the oldest beyond KEPT go."""
    for key, value in new.items():
        kept[key] = value
        kept.move_to_end(key)
    while len(kept) > KEPT:
        kept.popitem(last=False)


@contextmanager
def aside(device: torch.device) -> Iterator[Callable[[], None]]:
    """On CUDA a stream of its own, so that no frame queues behind an encoder; gives what waits for it."""
    if device.type != "cuda":
        yield lambda: None
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        yield stream.synchronize


def keys_of(goal: Goal, ready: Ready) -> list[Key]:
    """What has to be encoded for it."""
    return [(text, goal.asked.skip, goal.words) for text in (*ready.texts, *goal.now)]
