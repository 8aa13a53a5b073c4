"""A movie in, a movie out, through the real program: what comes out has the input's rate, length and order."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from bridge.app import App
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig, settled

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg to make a movie"),
]

RUN = ["run", "--engine=fake", "--no-web", "--osc-port=0", "--size=128x64"]


def make(path: Path, what: str) -> None:
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", what, "-pix_fmt", "yuv420p", path], check=True, timeout=60
    )


def livelatent(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bridge", *words], capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_rate_length_and_every_frame_in_order(tmp_path: Path, ending: str) -> None:
    make(tmp_path / "in.mp4", "testsrc2=size=160x80:rate=25:duration=1.2")
    out = tmp_path / f"out.{ending}"
    done = livelatent(*RUN, f"--source=movie:{tmp_path / 'in.mp4'}", f"--sink=movie:{out}")
    assert done.returncode == 0, done.stderr
    with av.open(str(out)) as movie:
        stream = movie.streams.video[0]
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="gray")) for f in movie.decode(stream)]
        assert (stream.width, stream.height) == (128, 64)
        assert float(stream.average_rate) == pytest.approx(25, rel=0.01)
    times = np.array([t for t, _ in frames])
    assert len(frames) == 30
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0015)
    # testsrc2 moves in every frame: two alike would be one painted twice.
    assert all((a != b).mean() > 0.01 for (_, a), (_, b) in itertools.pairwise(frames))


def test_a_broken_movie_is_a_sentence_and_the_run_can_be_ended(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_text("this is no movie")
    run = [*RUN, f"--source=movie:{tmp_path / 'no.mp4'}", "--sink=null", "--frames=1"]
    with subprocess.Popen([sys.executable, "-m", "bridge", *run], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "no.mp4" in line and "WARNING" in line:
                break
        process.terminate()
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("source", "sinks", "every"),
    [
        ("movie:a.mp4", ("movie:b.mp4",), True),
        ("folder:a?loop=0", ("movie:b.mp4", "movie:c.mkv"), True),
        ("movie:a.mp4", ("movie:b.mp4", "preview"), False),
        ("camera:0", ("movie:b.mp4",), False),
        ("scene", ("preview",), False),
    ],
)
def test_what_nobody_watches_is_painted_frame_by_frame(source: str, sinks: tuple[str, ...], every: bool) -> None:
    assert settled(Config(source=source, sinks=sinks)).every_frame is every
    assert settled(Config(source=source, sinks=sinks, every_frame=True)).every_frame is True


def test_a_worker_that_dies_in_a_render_costs_no_frame_and_doubles_none(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", "testsrc2=size=160x80:rate=25:duration=2")
    out = tmp_path / "out.mkv"
    app = App(
        Config(
            source=f"movie:{tmp_path / 'in.mp4'}",
            sinks=(f"movie:{out}",),
            params={"width": 128, "height": 64},
            worker=WorkerConfig(engine="fake", fake={"ms": 20.0}, stall_s=30.0),
            osc=OscConfig(port=0),
            web=WebConfig(enabled=False),
        )
    )
    killer = threading.Thread(target=kill_twice, args=(app,))
    try:
        app.start()
        killer.start()
        app.wait()
    finally:
        app.stopping.set()
        app.close()
        killer.join()
    assert app.metrics.get("worker.restarts") == 2
    with av.open(str(out)) as movie:
        times = [round(float(f.pts * f.time_base), 3) for f in movie.decode(video=0)]
    assert times == [round(i / 25, 3) for i in range(50)]


def kill_twice(app: App) -> None:
    for count in (10, 30):
        while not app.stopping.is_set() and not (app.output.count >= count and app.supervisor.active_pid):
            time.sleep(0.005)
        victim = app.supervisor.active_pid
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
            while not app.stopping.is_set() and app.supervisor.active_pid == victim:
                time.sleep(0.005)
