"""A recording made of the whole program, over real UDP, painted again: the same pictures, bit for bit, or why not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from PIL import Image
from support.show_run import Run

from bridge.config import RecordConfig, WorkerConfig
from bridge.record.replay import Outcome, Replay
from bridge.record.tape import Tape
from bridge.replay_cli import main as replay_main
from engines import paths
from pipelines import infotext

pytestmark = pytest.mark.usefixtures("nothing_left")

POCKET = {
    "source": "scene?size=160x120&fps=30",
    "worker": WorkerConfig(engine="eager", device="cpu", standby=False, threads=1, stall_s=60),
}


def seen(run: Run, name: str) -> str | float:
    return run.app.metrics.snapshot().get(name, "")


def recording(run: Run, count: int) -> None:
    """Until so many pictures of the present recording are on the disk."""
    run.until(lambda: (take := run.app.deck._take) is not None and take.frames >= count, 240)


def finished(run: Run) -> Path:
    run.osc.send_message("/ll/record/stop", [])

    def saved() -> bool:
        run.app.deck.report()
        return str(seen(run, "record.state")).startswith("saved ")

    run.until(saved)
    return paths.home() / "recordings" / str(seen(run, "record.state")).removeprefix("saved ")


def unequal(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if not outcome.same]


def perform(run: Run, count: int) -> Path:
    """A recording with a ramp, a prompt that fades in, feedback, smoothing and a LFO in it."""
    run.osc.send_message("/ll/feedback", 0.5)
    run.osc.send_message("/ll/smoothing", 0.3)
    run.until(lambda: run.fed[-1][1].smoothing == 0.3)
    version = run.fed[-1][1].version
    run.until(lambda: sum(frame.version >= version for frame in list(run.frames)) > 4)  # there is a past to recur
    run.osc.send_message("/ll/record/start", ["set", "mp4", "input"])
    recording(run, count // 6)
    run.osc.send_message("/ll/strength", [0.9, 1.0])
    run.osc.send_message("/ll/prompt", ["ink", 0.2])
    run.osc.send_message("/ll/schedule/mix", "lfo sine 0.5s 0.6 1")
    recording(run, count)
    return finished(run)


@pytest.mark.timeout(300)
def test_pocket_gives_the_recorded_pictures_again_bit_for_bit(
    start: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(**POCKET)
    folder = perform(run, 30)
    run.close()
    outcomes = list(Replay(Tape(folder)))
    assert len(outcomes) >= 30
    assert not unequal(outcomes)
    entries = [one.entry for one in Tape(folder)]
    assert len({entry.params.strength for entry in entries}) > 3
    assert len({entry.line.hash for entry in entries}) > 25
    assert entries[-1].params.prompt == "ink"
    assert {entry.params.take for entry in entries} == {1}
    with av.open(str(folder / "picture.mp4")) as file:
        assert sum(1 for _ in file.decode(video=0)) == len(outcomes)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_hundred_pictures_and_a_worker_that_dies_among_them(
    start: Callable[..., Run], amount: Callable[[int, int], int]
) -> None:
    run = start(**{**POCKET, "worker": WorkerConfig(engine="eager", device="cpu", threads=1, stall_s=60)})
    run.until(lambda: run.app.supervisor.standby_pid, 120)
    folder = perform(run, amount(200, 40))
    assert not unequal(list(Replay(Tape(folder))))
    run.osc.send_message("/ll/record/start", ["", "input"])
    recording(run, amount(100, 20))
    victim = run.app.supervisor.active_pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    recording(run, amount(300, 50))
    folder = finished(run)
    outcomes = list(Replay(Tape(folder)))
    assert len({one.entry.line.epoch for one in Tape(folder)}) == 2
    assert len(outcomes) >= amount(300, 50)
    assert not [outcome for outcome in unequal(outcomes) if not outcome.doubt]
    assert len(unequal(outcomes)) < len(outcomes) / 4  # of a cross-fade that was on


def test_what_the_command_says_of_a_recording_that_others_have_changed(
    start: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = start()
    run.osc.send_message("/ll/record/start", ["one", "mkv", "input"])
    recording(run, 12)
    folder = finished(run)
    run.close()
    arguments = {"folder": folder.name, "into": None, "format": "mkv", "engine": None, "set": []}

    def replay(**more: object) -> tuple[int, str]:
        import argparse

        status = replay_main(argparse.Namespace(**{**arguments, **more}))
        return status, capsys.readouterr().out

    status, said = replay()
    assert status == 0
    assert "pictures are bit-equal, painted with fake" in said

    into = folder.parent / "again"
    status, said = replay(into=str(into), set=["strength=0.2"])
    assert status == 0
    assert "painted with fake" in said
    with av.open(str(into / "picture.mkv")) as file:
        assert sum(1 for _ in file.decode(video=0)) >= 12

    lines = (folder / "frames.jsonl").read_text().splitlines(keepends=True)
    (at,) = (i for i, line in enumerate(lines) if '"n":3,' in line and '"hash":""' not in line)
    hash_of = lines[at].split('"hash":"')[1][:16]
    lines[at] = lines[at].replace(hash_of, "0" * 16)
    (folder / "frames.jsonl").write_text("".join(lines))
    status, said = replay()
    assert status == 1
    assert "  picture 3: other than recorded, and nothing says why" in said


def test_a_show_is_recorded_on_while_its_worker_dies(start: Callable[..., Run]) -> None:
    run = start()
    run.until(lambda: run.app.supervisor.standby_pid)
    run.osc.send_message("/ll/record", 1)
    recording(run, 5)
    victim = run.app.supervisor.active_pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    run.until(lambda: run.app.metrics.get("worker.restarts") == 1)
    before = len(run.frames)
    run.until(lambda: len(run.frames) > before + 10)
    folder = finished(run)
    entries = [one.entry for one in Tape(folder)]
    assert len({entry.line.epoch for entry in entries}) == 2
    assert [entry.line.n for entry in entries] == list(range(len(entries)))
    assert not (folder / "input.mkv").exists()


def test_recording_from_the_first_picture_and_to_the_end_of_the_run(start: Callable[..., Run]) -> None:
    run = start(record=RecordConfig(start=True, format="png", input=True))
    recording(run, 5)
    run.close()
    (folder,) = (paths.home() / "recordings").iterdir()
    entries = [one.entry for one in Tape(folder)]
    shown = [entry for entry in entries if not entry.line.unseen]
    assert len(list((folder / "picture").iterdir())) == len(shown) >= 5
    assert not unequal(list(Replay(Tape(folder))))


def test_a_still_carries_the_settings_of_its_own_picture(start: Callable[..., Run]) -> None:
    run = start()
    run.osc.send_message("/ll/prompt", "gold, ink: 2")
    run.osc.send_message("/ll/seed", 77)
    run.until(lambda: run.fed[-1][1].seed == 77)
    version = run.fed[-1][1].version
    run.until(lambda: run.frames[-1].version >= version)
    run.osc.send_message("/ll/still", ["../shot", "input"])
    run.until(lambda: seen(run, "still.count") == 1)
    path = paths.home() / "stills" / str(seen(run, "still"))
    assert path.name.endswith("_shot.png")
    with Image.open(path) as picture:
        assert picture.size == (128, 128)
        said = infotext.read(picture.info["parameters"])
    assert (said.values["prompt"], said.values["seed"], said.notes) == ("gold, ink: 2", 77, [])
    with Image.open(path.with_name(f"{path.stem}_input.png")) as picture:
        assert picture.size == (128, 128)
