"""`livelatent bench display`: a show in virtual time, and figures that tell holding from moving."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bridge.bench_display import compare, show
from bridge.cli import main
from bridge.clock import NS
from tests.support.pans import window

CLIP = [window(100 + n, 80, 96, 96) for n in range(60)]


def test_the_painter_takes_the_newest_input_and_is_one_painting_late() -> None:
    ticks = show(CLIP, display=60, fps=30, painted=20)
    assert [tick.right for tick in ticks] == list(range(3, 60)), "from the first picture on, every tick"
    assert [tick.newest for tick in ticks[:7]] == [0, 0, 0, 2, 2, 2, 6], "of the inputs, every second frame"
    assert [[frame.seq for frame in tick.inputs] for tick in ticks[:4]] == [[0, 2], [4], [], [6]]
    assert all(tick.fed_ns == NS + tick.newest * NS // 60 for tick in ticks)


def test_the_figures_tell_holding_from_moving() -> None:
    pairs = [(255 - frame, frame) for frame in CLIP]
    rows = compare(show(CLIP, 60, 60, 20), pairs, 60, "crop")
    hold, moved, painted = rows["hold"], rows["moved"], rows["painted"]
    assert hold["lag ms"] == pytest.approx(4 * 1000 / 60, abs=5)
    assert moved["lag ms"] < 5
    assert moved["error %"] < 40 > moved["motion %"]
    assert moved["unevenness"] < 0.5 < hold["unevenness"]
    assert hold["error %"] == hold["motion %"] == pytest.approx(100)
    assert painted["error"] == painted["lag ms"] == 0
    assert painted["sharpness %"] == pytest.approx(100)
    assert np.isclose(moved["sharpness %"], 100, atol=20)


def test_by_name_with_a_model(capsys, tmp_path) -> None:
    torch.set_num_threads(1)  # as in other tests: networks this small only lose by more
    out = tmp_path / "figures.json"
    arguments = ["bench", "display", "--size", "64", "--frames", "36", "--painted", "30", "--json", str(out)]
    assert main(arguments) == 0
    figures = json.loads(out.read_text())
    assert figures["bench"] == "display"
    assert figures["moved"]["motion %"] < 100
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["error", "error"]
    assert main(["bench", "display", "--fps", "50"]) != 0
    assert main(["bench", "display", "--size", "64", "--frames", "20"]) != 0
