"""Named settings side by side on one clip: what `livelatent bench coherence` measures, and its strip of pictures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from pipelines.coherence.measure import Coherence, Picture, assess, estimate_flow
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from pipelines.transfer import Pixels

WARM = 2
"""Frames at the beginning whose times do not count."""
RUN = 3
"""Consecutive pictures in a strip: flicker is seen from one to the next."""
LABEL = 96
"""Pixels for the names on the left of a strip."""


class Take(NamedTuple):
    """One look's way through the clip."""

    pictures: list[Picture]
    coherence: Coherence
    fps: float
    """Frames a second of the whole call, upload and download included: one over the median time."""
    skipped: int
    """Frames that its similarity filter left unpainted."""
    lacks: str
    """What a control unit of it lacks, a sentence; empty when nothing."""


def compare(
    stream: DiffusionStream, looks: Mapping[str, Params], clip: Sequence[Pixels]
) -> tuple[list[Picture], dict[str, Take]]:
    """The fitted inputs, and each look's take. All looks run over the networks of `stream`, frame by frame in turns, so
    that whatever else the machine does slows them alike. ValueError for a clip of fewer than WARM + 2 frames.

    Like the stream's own prompts and ControlNets, those of a look are ready before its first frame.
    """
    if len(clip) < WARM + 2:
        raise ValueError(f"a clip needs {WARM + 2} frames or more, not {len(clip)}")
    runs = {name: _Run(stream.twin(params), params) for name, params in looks.items()}
    try:
        for run in runs.values():
            run.make_ready(clip[0])
        inputs = []
        for number, frame in enumerate(clip):
            inputs.append(stream(frame, Params(bypass=True)).copy())
            for run in list(runs.values())[:: -1 if number % 2 else 1]:
                run.paint(frame)
        flows = [estimate_flow(a, b) for a, b in pairwise(inputs)]
        return inputs, {
            name: Take(
                run.pictures,
                assess(inputs, run.pictures, flows),
                1.0 / statistics.median(run.times[WARM:]),
                int(run.stream.notes()["coherence.skipped"]),
                str(run.stream.notes()["control.error"]),
            )
            for name, run in runs.items()
        }
    finally:
        for run in runs.values():
            run.stream.close()


class _Run:
    """One look under way."""

    def __init__(self, stream: DiffusionStream, params: Params) -> None:
        self.stream, self.params = stream, params
        self.pictures: list[Picture] = []
        self.times: list[float] = []

    def make_ready(self, frame: Pixels) -> None:
        """Its prompt and networks there, its kernels chosen, its past forgotten."""
        self.stream.tune(self.params)
        awake = msgspec.structs.replace(self.params, similarity_threshold=0.0)
        for _ in range(2):
            self.stream(frame, awake)
        self.stream.reset()

    def paint(self, frame: Pixels) -> None:
        began = time.perf_counter()
        picture = self.stream(frame, self.params)
        self.times.append(time.perf_counter() - began)
        self.pictures.append(picture.copy())


def strip(rows: Mapping[str, Sequence[Picture]], side: int = 192) -> Picture:
    """A row of pictures for each name: RUN in a row from the first third of the clip, then its last RUN; uint8 RGB."""
    count = len(next(iter(rows.values())))
    first = min(count // 3, max(0, count - 2 * RUN))
    shown = sorted({*range(first, min(first + RUN, count)), *range(max(0, count - RUN), count)})
    lines = [_line(name, [pictures[n] for n in shown], side) for name, pictures in rows.items()]
    head = np.full((20, lines[0].shape[1], 3), 255, np.uint8)
    wide = (head.shape[1] - LABEL) // len(shown)
    for place, number in enumerate(shown):
        _write(head, f"frame {number}", LABEL + place * wide + 4, 14)
    return np.concatenate([head, *lines])


def _line(name: str, pictures: Sequence[Picture], side: int) -> Picture:
    scale = side / max(pictures[0].shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = [np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how)) for picture in pictures]
    label = np.full((small[0].shape[0], LABEL, 3), 255, np.uint8)
    _write(label, name, 4, label.shape[0] // 2)
    return np.concatenate([label, *small], axis=1)


def _write(on: Picture, text: str, x: int, y: int) -> None:
    cv2.putText(on, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
