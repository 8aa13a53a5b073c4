"""`livelatent bench coherence`: looks side by side, each with a past of its own; figures that tell them apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bridge.bench_coherence import PLAIN, read_clip, settings
from bridge.cli import main
from bridge.errors import ConfigError, LiveLatentError
from bridge.load_config import looks
from bridge.sources.scene import draw
from engines import modelfile
from engines.base import Build
from engines.eager import EagerEngine
from pipelines.coherence.bench import LABEL, RUN, compare, strip
from pipelines.coherence.measure import assess
from pipelines.params import Params, table
from pipelines.stream import DiffusionStream
from tests.support.clips import needs_ffmpeg, numbered
from tests.support.controlnets import write_controlnet

SIDE = 64
CLIP = [draw(n / 30, SIDE, SIDE, 1) for n in range(8)]


@pytest.fixture
def stream(model_folder, tmp_path) -> Iterator[DiffusionStream]:
    nets = EagerEngine().load(model_folder("sd15"), Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    nets.controlnets["a"] = nets.load_control(write_controlnet(tmp_path / "a", model_folder("sd15"), 1))
    made = DiffusionStream(nets, (SIDE, SIDE), Params())
    yield made
    made.close()


def test_each_look_goes_its_own_way_over_the_same_networks(stream) -> None:
    looks = {
        "plain": Params(noise_mode="frame"),
        "steady": Params(noise_mode="frame", smoothing=0.9, smoothing_mode="flow"),
        "lazy": Params(similarity_threshold=60.0, similarity_max_skip=3),
        "lacking": Params(control1_on=True, control1_model="a", control1_source="stream"),
    }
    inputs, takes = compare(stream, looks, CLIP)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, CLIP, strict=True))
    assert list(takes) == list(looks)
    alone = stream.twin(looks["steady"])
    try:
        pictures = [alone(frame, looks["steady"]).copy() for frame in CLIP]
    finally:
        alone.close()
    assert all(np.array_equal(a, b) for a, b in zip(takes["steady"].pictures, pictures, strict=True))
    assert takes["steady"].coherence == assess(inputs, pictures)
    assert takes["steady"].coherence.warped_error < 0.6 * takes["plain"].coherence.warped_error
    same = [np.array_equal(a, b) for a, b in pairwise(takes["lazy"].pictures)]
    assert takes["lazy"].skipped == sum(same) > 2
    assert all(take.fps > 0 for take in takes.values())
    assert takes["plain"].skipped == 0
    assert "own stream" in takes["lacking"].lacks or "a" in takes["lacking"].lacks
    assert takes["plain"].lacks == ""


def test_a_clip_that_is_too_short_is_refused(stream) -> None:
    with pytest.raises(ValueError, match="4 frames or more, not 3"):
        compare(stream, {"plain": Params()}, CLIP[:3])


def test_a_strip_shows_pictures_in_a_row_and_the_last_ones() -> None:
    rows = {"a": [np.full((SIDE, SIDE, 3), 10 * n, np.uint8) for n in range(12)], "b": CLIP[:1] * 12}
    picture = strip(rows, side=32)
    assert picture.shape == (20 + 2 * 32, LABEL + 2 * RUN * 32, 3)
    middle = picture[20 + 16, LABEL + 16 :: 32, 0]
    assert middle.tolist() == [40, 50, 60, 90, 100, 110]
    assert (picture[20:, :LABEL] < 100).any(), "names"
    assert strip({"a": CLIP[:2]}, side=32).shape == (20 + 32, LABEL + 2 * 32, 3)


def test_looks_lie_over_the_settings_that_all_share() -> None:
    base = {"model": "pocket", "width": 128, "height": 64, "strength": 0.37, "smoothing": 0.9, "steps": 2}
    found = settings([PLAIN, *looks()], base)
    assert list(found) == [PLAIN, *looks()]
    assert found[PLAIN] == Params(**base)
    for name, params in found.items():
        assert (params.width, params.height, params.model, params.steps) == (128, 64, "pocket", 2), name
    assert len(set(found.values())) == len(found), "no look does nothing"
    with pytest.raises(ConfigError, match="no config file 'flowin'; did you mean 'flowing'"):
        settings(["flowin"], base)


def test_a_look_of_ones_own_is_a_file_and_says_nothing_about_the_model(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[params]\nmodel = "pocket"\nwidth = 512\nfeedback = 0.4\n')
    found = settings([str(tmp_path / "mine.toml")], {"model": "pocket", "width": 64, "height": 64})
    assert list(found) == ["mine"]
    assert (found["mine"].width, found["mine"].feedback) == (64, 0.4)


@pytest.mark.parametrize("name", list(looks()))
def test_what_we_ship_recurs_and_leaves_what_is_the_users_alone(name: str) -> None:
    params = settings([name], {})[name]
    changed = {row for row in table() if getattr(params, row) != getattr(Params(), row)}
    mine = {"strength", "steps", "noise_mode", "noise_speed"}
    assert changed
    assert not {row for row in changed - mine if table()[row].group not in ("coherence", "control 1", "control 2")}


def test_a_clip_is_every_frame_in_order() -> None:
    clip = read_clip("scene?size=64x64&fps=10&seed=1", 5, Params())
    assert all(np.array_equal(frame, draw(n / 10, 64, 64, 1)) for n, frame in enumerate(clip))
    assert len(clip) == 5


@needs_ffmpeg
def test_a_movie_that_ends_is_a_shorter_clip(tmp_path: Path) -> None:
    assert len(read_clip(f"movie:{numbered(tmp_path / 'short.mp4', 7)}", 60, Params())) == 7
    with pytest.raises(LiveLatentError, match="is not there"):
        read_clip("movie:nowhere.mp4", 5, Params())


def test_the_command_prints_a_table_and_writes_figures_and_strip(model_folder, tmp_path: Path, capsys) -> None:
    file = modelfile.user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[models.small]\nfolder = "{model_folder().as_posix()}"\nsampler = "turbo"\n')
    (tmp_path / "mine.toml").write_text('[params]\nnoise_mode = "frame"\n')
    words = ["bench", "coherence", "--model", "small", "--size", "64", "--frames", "6", "--dtype", "fp32"]
    looks = ["--look", "plain", "--look", str(tmp_path / "mine.toml"), "--set", "strength=0.8"]
    paths = ["--strip", str(tmp_path / "s.png"), "--json", str(tmp_path / "f.json")]
    threads = torch.get_num_threads()
    assert main([*words, *looks, *paths]) == 0
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["plain", "mine"]
    assert "warped error" in lines[-3]
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["mine"]["warped error"] > 1.2 * figures["plain"]["warped error"], (
        "noise of its own for each frame boils"
    )
    assert figures["plain"]["error %"] == pytest.approx(100)
    assert cv2.imread(str(tmp_path / "s.png")).shape[1] > LABEL
    assert main([*words, *looks, "--strip", str(tmp_path / "s.docx")]) == 2
    assert "takes a .png or .jpg file" in capsys.readouterr().err
