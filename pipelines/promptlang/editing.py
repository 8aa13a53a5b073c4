"""Prompts that change while a picture is made, as AUTOMATIC1111's web UI reads them.

`[from:to:when]` is `from` up to step `when` and `to` after it, `[to:when]` and `[from::when]` leave one side empty;
`when` with a point is a fraction of all steps, without one a step. `[a|b|c]` takes turns, step by step. They nest.
Brackets that are none of these stay as they are: they are attention, and the encoder's.

    prompt    = { plain | "(" prompt [":" prompt] ")" | "[" prompt "]" | edit | turns }
    edit      = "[" [prompt ":"] prompt ":" number "]"        turns = "[" prompt "|" prompt { "|" prompt } "]"
    plain     = any run without ( ) [ ] : | and with \\ before what is escaped

At the top brackets and colons that fit nowhere are text. A `|` that fits nowhere makes the whole prompt text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_DEPTH = 64
_PLAIN = re.compile(r"(?:[^\\\[\]():|]|\\.)+")
_WHEN = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\]")


class Edit(NamedTuple):
    """One text up to a step, another after it."""

    before: Tree
    after: Tree
    when: str


class Turns(NamedTuple):
    """One text after the other, a step each."""

    options: tuple[Tree, ...]


Node = str | Edit | Turns
Tree = tuple[Node, ...]


def parse_edits(prompt: str) -> Tree:
    """The prompt as text and places that change. Never fails: what can't be read is text."""
    reader = _Reader(prompt)
    nodes: list[Node] = []
    at = 0
    while at < len(prompt):
        found, end = reader.prompt(at, 0)
        nodes += found
        if end == len(prompt):
            break
        if prompt[end] not in "[]():":
            return (prompt,)
        nodes.append(prompt[end])
        at = end + 1
    return _joined(nodes)


def render(tree: Tree, step: int, steps: int, endless: bool = False) -> str:
    """The text at `step`, which counts from 1. With `endless`, steps go on after `steps`, as on a stream."""
    out = []
    for node in tree:
        if isinstance(node, Edit):
            side = node.before if step <= last_step(node.when, steps, endless) else node.after
            out.append(render(side, step, steps, endless))
        elif isinstance(node, Turns):
            out.append(render(node.options[(step - 1) % len(node.options)], step, steps, endless))
        else:
            out.append(node)
    return "".join(out)


def last_step(when: str, steps: int, endless: bool = False) -> int:
    """The last step of `before`."""
    step = float(when) * (steps if "." in when else 1)
    most = 2.0**31 if endless else steps
    return int(max(min(step, most), -most))


def changes(tree: Tree, steps: int) -> set[int]:
    """The steps after which the text may be another one, `steps` included."""
    out = {steps}
    for node in tree:
        if isinstance(node, Edit):
            when = last_step(node.when, steps)
            out |= {when} if when >= 1 else set()
            out |= changes(node.before, steps) | changes(node.after, steps)
        elif isinstance(node, Turns):
            out |= set(range(1, steps + 1))
    return out


def schedule(prompt: str, steps: int) -> list[tuple[int, str]]:
    """(last step, text), in order: which text each of `steps` sampling steps is made with."""
    tree = parse_edits(prompt)
    return [(step, render(tree, step, steps)) for step in sorted(changes(tree, steps))]


def still(tree: Tree) -> bool:
    """Whether there is nothing in it that changes."""
    return all(isinstance(node, str) for node in tree)


def _joined(nodes: list[Node]) -> Tree:
    """Runs of text as one."""
    out: list[Node] = []
    for node in nodes:
        last = out[-1] if out else None
        if isinstance(node, str) and isinstance(last, str):
            out[-1] = last + node
        else:
            out.append(node)
    return tuple(out)


class _Reader:
    """Recursive descent; every bracket is read once, so that time is linear in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._known: dict[int, tuple[list[Node], int] | None] = {}

    def prompt(self, at: int, depth: int) -> tuple[list[Node], int]:
        """As much of a prompt as there is at `at`, and where it ends."""
        nodes: list[Node] = []
        while at < len(self.text):
            plain = _PLAIN.match(self.text, at)
            if plain:
                nodes.append(plain[0])
                at = plain.end()
                continue
            found = self.bracket(at, depth) if self.text[at] in "([" else None
            if found is None:
                break
            nodes += found[0]
            at = found[1]
        return nodes, at

    def bracket(self, at: int, depth: int) -> tuple[list[Node], int] | None:
        if at not in self._known:
            read = self.round if self.text[at] == "(" else self.square
            self._known[at] = read(at, depth + 1) if depth < MAX_DEPTH else None
        return self._known[at]

    def here(self, at: int) -> str:
        return self.text[at : at + 1]

    def round(self, at: int, depth: int) -> tuple[list[Node], int] | None:
        inner, end = self.prompt(at + 1, depth)
        if self.here(end) == ":":
            more, end = self.prompt(end + 1, depth)
            inner = [*inner, ":", *more]
        return (["(", *inner, ")"], end + 1) if self.here(end) == ")" else None

    def square(self, at: int, depth: int) -> tuple[list[Node], int] | None:
        first, end = self.prompt(at + 1, depth)
        sign = self.here(end)
        if sign == "]":
            return ["[", *first, "]"], end + 1
        if sign == "|":
            return self.turns([first], end, depth)
        if sign != ":":
            return None
        when = _WHEN.match(self.text, end + 1)
        if when:
            return [Edit((), _joined(first), when[1])], when.end()
        second, end = self.prompt(end + 1, depth)
        when = _WHEN.match(self.text, end + 1) if self.here(end) == ":" else None
        return ([Edit(_joined(first), _joined(second), when[1])], when.end()) if when else None

    def turns(self, options: list[list[Node]], at: int, depth: int) -> tuple[list[Node], int] | None:
        while self.here(at) == "|":
            found, at = self.prompt(at + 1, depth)
            options.append(found)
        return ([Turns(tuple(map(_joined, options)))], at + 1) if self.here(at) == "]" else None
