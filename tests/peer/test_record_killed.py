"""A program that is killed while it records leaves files that play, and lines that tell of every picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from support.clips import needs_ffmpeg
from support.records import noise

from bridge.record.tape import Tape

ROOT = Path(__file__).resolve().parents[2]
COUNT = 150
"""Six seconds: an encoder holds some pictures back, a container up to a second."""


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_what_was_recorded_plays_after_a_kill(tmp_path: Path, kind: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(Path(__file__).with_name("recording_child.py")), str(tmp_path), kind, str(COUNT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as child:
        try:
            assert child.stdout is not None
            assert int(child.stdout.readline()) == COUNT
        finally:
            child.kill()

    played = list(Tape(tmp_path))
    assert len(played) >= COUNT - 1
    assert [one.entry.line.n for one in played] == list(range(len(played)))
    probe = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]
    path = tmp_path / f"picture.{kind}"
    said = subprocess.run([*probe, str(path)], capture_output=True, text=True, timeout=60)
    assert int(said.stdout.strip().strip(",")) >= COUNT - 90
    with av.open(str(path)) as file:
        pictures = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    assert len(pictures) >= COUNT - 90
    if kind == "mkv":
        np.testing.assert_array_equal(pictures[-1], noise(len(pictures) - 1))
    given = [one for one in played if one.input is not None]
    assert len(given) >= COUNT - 90
    np.testing.assert_array_equal(given[-1].input, noise(1000 + len(given) - 1, 48, 80, 3))
