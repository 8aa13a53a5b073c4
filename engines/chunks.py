"""A prompt in chunks of a text encoder's own length, as AUTOMATIC1111's web UI cuts it. Computes no tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from engines.attention import Piece
from engines.embeddings import Embeddings

BACKTRACK = 20
"""A comma among the last so many tokens of a full chunk takes what follows it along to the next one."""
WEIGHTS = 10.0
"""No word weighs more than this, either way: beyond it the picture is noise."""


class Item(NamedTuple):
    """One token, or one embedding."""

    token: int
    weight: float
    word: str
    """The word of the prompt that it belongs to."""
    known: bool = True
    vectors: tuple[Tensor, ...] = ()

    @property
    def size(self) -> int:
        return len(self.vectors[0]) if self.vectors else 1


class Chunk:
    """What goes through the text encoder at once."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.size = 0
        self.comma: int | None = None
        """How many items there are up to the last comma, that included."""

    def add(self, item: Item, comma: bool) -> None:
        self.items.append(item)
        self.size += item.size
        if comma:
            self.comma = len(self.items)

    def tail(self) -> list[Item]:
        """Take off what the next chunk should begin with, so that no phrase is cut in two."""
        if self.comma is None or sum(item.size for item in self.items[self.comma :]) >= BACKTRACK:
            return []
        tail = self.items[self.comma :]
        del self.items[self.comma :]
        return tail


class Said(NamedTuple):
    """A prompt, cut."""

    chunks: list[Chunk]
    tokens: int
    """Begin, end and padding not counted."""
    unknown: tuple[str, ...]
    """Words that the vocabulary can't spell."""


def cut(pieces: Iterable[Piece], tokenizer: Any, room: int, embeddings: Embeddings, notes: list[str]) -> Said:
    """`pieces` in chunks of at most `room` tokens, at least one chunk."""
    comma = _comma(tokenizer)
    chunks = [Chunk()]
    items = 0
    unknown: dict[str, None] = {}
    for piece in pieces:
        if piece.breaks:
            chunks.append(Chunk())
            continue
        for item in _items(piece, tokenizer, embeddings, notes):
            items += item.size
            if not item.known:
                unknown[item.word] = None
            is_comma = comma is not None and item.token == comma
            if chunks[-1].size + item.size > room:
                tail = [] if is_comma or item.vectors else chunks[-1].tail()
                chunks.append(Chunk())
                for moved in tail:
                    chunks[-1].add(moved, False)
            chunks[-1].add(item, is_comma)
    if len(chunks) > 1 and not chunks[-1].items:
        chunks.pop()  # a break at the end makes no chunk
    return Said(chunks, items, tuple(unknown))


def overflow(said: Said, capacity: int) -> tuple[str, ...]:
    """The words that lie beyond the first `capacity` chunks."""
    return tuple(dict.fromkeys(item.word for chunk in said.chunks[capacity:] for item in chunk.items))


def _items(piece: Piece, tokenizer: Any, embeddings: Embeddings, notes: list[str]) -> Iterable[Item]:
    weight = min(max(piece.weight, -WEIGHTS), WEIGHTS)
    if weight != piece.weight:
        notes.append(f"a weight of {piece.weight:g} is taken as {weight:g}")
    for span in embeddings.split(piece.text, notes):
        if span.vectors:
            yield Item(-1, weight, span.text, True, span.vectors)
            continue
        found = tokenizer(
            span.text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            yield Item(token, weight, _word(span.text, start, end), token != tokenizer.unk_token_id)


def _comma(tokenizer: Any) -> int | None:
    """The token of a comma, where the vocabulary has one."""
    ids: Sequence[int] = tokenizer(",", add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def _word(text: str, start: int, end: int) -> str:
    """The whole word around [start, end)."""
    left = max(text.rfind(c, 0, start) for c in " \n\t") + 1
    return text[left:].split(maxsplit=1)[0] if text[left:].strip() else text[start:end]
