"""Which engine and precision a machine paints with: one rung after the other, each taken only if its pictures are
eager's and it is faster, as measured here. No torch: what a rung paints and costs others find out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from engines.base import KERNELS, Kernels
from engines.errors import ModelError, first_line
from pipelines.spec import DType

LIKENESS = 0.96
DISTANCE = 0.06
"""Both hold for every rung: likeness to eager's picture in fp32 at least, distance at most (pipelines.gate)."""
GAIN = 1.05
"""A rung has to be so many times as fast as the one before: less is within what such a measurement can tell."""
TURNS = 5
"""How often two rungs paint for the clock, turn by turn."""


class Rung(msgspec.Struct, frozen=True):
    """An engine, and what it computes in."""

    engine: Literal["eager", "openvino", "tensorrt"]
    dtype: DType = "auto"
    kernels: Kernels | Literal["kept"] = ""
    """For eager; `kept`: as the rung before has them, which is known when it is tried."""

    @property
    def name(self) -> str:
        """For people: `tensorrt fp8`; the engine alone where the precision is its own choice."""
        dtype = "" if self.dtype == "auto" else self.dtype
        return " ".join(filter(None, (self.engine, dtype, KERNELS.get(self.kernels, ""))))

    def after(self, before: Rung) -> Rung:
        """This one, tried where `before` is what was best so far."""
        return msgspec.structs.replace(self, kernels=before.kernels) if self.kernels == "kept" else self


class Tried(msgspec.Struct, frozen=True):
    """What came out of one rung."""

    rung: Rung
    why: str
    """A sentence for people."""
    taken: bool = False
    failed: bool = False
    """Whether it did not get so far as to be compared."""
    ms: float = 0.0
    before_ms: float = 0.0
    """What a frame costs on this rung, and on the one before it in the same turns."""
    likeness: float = 0.0
    distance: float = 0.0


class Verdict(msgspec.Struct, frozen=True):
    """What came out of the climb."""

    rung: Rung
    why: str
    """A sentence for people."""
    tried: tuple[Tried, ...] = ()

    @property
    def failed(self) -> str:
        """What went wrong, each rung in words; empty where nothing did."""
        return "; ".join(each.why for each in self.tried if each.failed)

    @property
    def way_down(self) -> tuple[Rung, ...]:
        """The best rung, then those below it that were taken before: what to do when one can't be had after all."""
        return (self.rung, *(each.rung for each in reversed(self.tried) if each.taken and each.rung != self.rung))


class Near(NamedTuple):
    """How near pictures are to eager's in fp32, the worst of them."""

    likeness: float
    distance: float


class Painter(Protocol):
    """One rung, loaded."""

    def near(self) -> Near: ...

    def cost(self) -> float:
        """Milliseconds a frame, over all frames."""
        ...

    def close(self) -> None: ...


def climb(
    base: Rung, rungs: Sequence[Rung], load: Callable[[Rung], Painter], what: str, tell: Callable[[Rung], None]
) -> Verdict:
    """From `base` upwards. `what`: what the milliseconds are of, for people. `tell`: told which rung is next. Raises
    ModelError where `base` itself can't be had."""
    here, painter, tried = base, load(base), list[Tried]()
    try:
        for rung in (each.after(here) for each in rungs):
            tell(rung)
            try:
                other = load(rung)
            except (ModelError, RuntimeError, MemoryError) as error:
                tried.append(Tried(rung, f"{rung.name} failed: {first_line(error)}", failed=True))
                continue
            found = _compared(here, painter, rung, other, what)
            tried.append(found)
            if found.taken:
                here, painter, other = rung, other, painter
            other.close()
    finally:
        painter.close()
    return Verdict(here, _summary(base, here, tried), tuple(tried))


def _compared(here: Rung, painter: Painter, rung: Rung, other: Painter, what: str) -> Tried:
    try:
        near = other.near()
        figures: dict[str, Any] = {"likeness": near.likeness, "distance": near.distance}
        if not (near.likeness >= LIKENESS and near.distance <= DISTANCE):  # not so for NaN either
            numbers = f"likeness {near.likeness:.3f}, distance {near.distance:.3f}"
            return Tried(rung, f"{rung.name}'s pictures differ from eager's: {numbers}", **figures)
        costs = [each.cost() for _ in range(TURNS) for each in (painter, other)]
    except RuntimeError as error:  # a kernel that fails, or memory that is not there
        return Tried(rung, f"{rung.name} failed: {first_line(error)}", failed=True)
    before, ms = statistics.median(costs[::2]), statistics.median(costs[1::2])
    figures |= {"ms": ms, "before_ms": before}
    times = f"{_number(ms)} against {here.name}'s {_number(before)} ms {what}"
    if before < GAIN * ms:
        return Tried(rung, f"{rung.name} is not faster here: {times}", **figures)
    return Tried(rung, f"{rung.name} is {before / ms:.1f} times as fast here: {times}", taken=True, **figures)


def _number(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 20 else f"{ms:.1f}"


def _summary(base: Rung, here: Rung, tried: Sequence[Tried]) -> str:
    """Why it is this rung: what took it there, or what spoke against the others."""
    if here == base:
        return "; ".join(each.why for each in tried) or f"there is nothing but {base.name} to choose from"
    return next(each.why for each in reversed(tried) if each.taken)
