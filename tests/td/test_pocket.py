"""The whole way with a real model: a movie and a camera in TouchDesigner, pocket in a bridge, and its pictures back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from td.component import Stage, corner, dominant, ready

pytestmark = pytest.mark.timeout(900)

Amount = Callable[[int, int], int]


class Tally:
    """Matches each picture with the frame that it came from, by what travels along."""

    def __init__(self, stage: Stage) -> None:
        self.came: list[tuple[float, int]] = []
        self._sent: dict[int, int] = {}
        self._stage, links = stage, stage.ext.links
        self._put, self._read = links.sender.put, links.reader.read
        links.sender.put, links.reader.read = self.put, self.read

    def put(self, source: Any, mask: Any, captured: int, media: int) -> None:
        self._sent[media] = len(self._sent)
        self._put(source, mask, captured, media)

    def read(self, picture: Any) -> Any:
        news = self._read(picture)
        if news is not None and news[1] in self._sent:
            number = self._sent[news[1]]
            assert not self.came or number >= self.came[-1][1], "an older one after a younger"
            if not self.came or number > self.came[-1][1]:  # the bridge repeats one while no newer is there
                self.came.append((time.monotonic(), number))
            assert dominant(self._stage.out._seen()) == {"red": 0, "green": 1, "blue": 2}
        return news


def test_pictures_come_back_in_order_upright_and_in_their_colours(tmp_path: Path, amount: Amount) -> None:
    """256x256, 60 frames of TouchDesigner a second."""
    stage = ready(tmp_path, "--no-web")
    seconds = amount(30, 2)
    try:
        stage.comp.par.Prompt, stage.comp.par.Strength = "watercolour", 0.3
        stage.comp.par.Start.pulse()
        stage.until(lambda: stage.ext.received > 3, 400)  # torch, diffusers and the weights
        stage.until(lambda: stage.par("Modelinfo").startswith("pocket"))
        tally = Tally(stage)
        for kind in ("moviefileinTOP", "videodeviceinTOP"):
            top = stage.project.create(kind)
            top._show(corner())
            top.outputConnectors[0].connect(stage.comp.inputConnectors[0])
            tally.came.clear()
            end, shift = time.monotonic() + seconds, 0
            while time.monotonic() < end or len(tally.came) < 5:
                shift = (shift + 1) % 9 - 4
                top._show(corner(shift=shift))
                stage.frame()
            (first, _), (last, _) = tally.came[0], tally.came[-1]
            rate, trip = (len(tally.came) - 1) / (last - first), statistics.median(stage.ext.trips)
            print(f"\n{kind}: {rate:.1f} pictures/s, {len(tally.came)} matched with their frames, trip {trip:.0f} ms")
            assert rate > amount(12, 0)
    finally:
        stage.close()
