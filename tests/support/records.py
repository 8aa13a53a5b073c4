"""Made pictures with all that a recording wants to know of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bridge.clock import MS
from bridge.frame import Frame, Made, Pixels, Stamps
from bridge.record.journal import Fed
from bridge.record.lines import Header
from bridge.record.tape import Played, Tape
from pipelines.acting import Acting
from pipelines.params import Params
from pipelines.spec import StreamSpec

STEP_NS = 40 * MS
SPEC = StreamSpec(engine="fake", width=64, height=64)


def noise(seed: int, *shape: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape or (64, 64, 3), np.uint8)


def stamps(n: int) -> Stamps:
    at = 1_000_000_000 + n * STEP_NS
    return Stamps(at, at + MS, at + 2 * MS, at + 3 * MS)


def made(epoch: int = 1, spec: StreamSpec = SPEC, **acting: Any) -> Made:
    return Made(epoch, spec, msgspec.msgpack.encode(Acting(engine="fake", **acting)))


def shown(n: int, pixels: Pixels | None = None, epoch: int = 1, **acting: Any) -> Frame:
    """The n-th picture that a worker painted, of the frame that was fed at `stamps(n).fed`."""
    picture = noise(n) if pixels is None else pixels
    return Frame(picture, n, stamps(n), version=n + 1, made=made(epoch, **acting))


def fed(n: int, pixels: Pixels | None = None, **params: Any) -> Fed:
    given = noise(1000 + n, 48, 80, 3) if pixels is None else pixels
    return Fed(Frame(given, n, stamps(n)), Params(version=n + 1, **params))


def header(picture: str = "picture.mkv", with_input: bool = True) -> Header:
    return Header(livelatent="test", began="2026-01-01", picture=picture, input="input.mkv" if with_input else "")


def played(folder: Path) -> list[Played]:
    return list(Tape(folder))


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
