"""The command line: what reaches the Config, and how it says no."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli import COMMANDS, main
from bridge.config import Config
from bridge.load_config import load_config
from bridge.run_cli import configure, layers
from bridge.version import __version__
from engines.paths import home
from pipelines.spec import IMAGE

ROOT = Path(__file__).resolve().parents[2]


def config(*words: str) -> Config:
    parser = argparse.ArgumentParser()
    configure(parser)
    return load_config(layers(parser.parse_args(words)))


def livelatent(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def test_every_flag_of_run_reaches_the_config(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("frames = 9\nstop_at_end = false\nsinks = ['shm']\n[params]\nseed = 4\nmix = 0.5\n")
    run = config(
        *("--config", str(file), "--source", "movie:a b.mp4?loop=0", "--sink", "null", "--sink", "zmq"),
        *("--hint-sink", "shm?name=h", "--control-source", "1=scene", "--control-source", "3=shm?name=a=b"),
        *("--image-source", "camera:1"),
        *("--model", "pocket", "--prompt", "gold, slow", "--size", "512x384", "--set", "mix=0.25", "--set", "pause=1"),
        *("--engine", "fake", "--device", "cpu", "--dtype", "bf16", "--threads", "2", "--every-frame", "--frames", "7"),
        *("--osc-port", "0", "--web-port", "0", "--no-browser", "--lan", "--allow", "10.0.0.0/8"),
    )
    assert (run.source, run.sinks) == ("movie:a b.mp4?loop=0", ("null", "zmq"))
    assert run.hint_sinks == ("shm?name=h",)
    assert run.control_sources.by_unit() == {1: "scene", 3: "shm?name=a=b"}
    assert run.own_sources() == {IMAGE: "camera:1", 1: "scene", 3: "shm?name=a=b"}
    assert (run.every_frame, run.stop_at_end, run.frames) == (True, False, 7)
    worker = run.worker
    assert (worker.engine, worker.device, worker.dtype, worker.threads) == ("fake", "cpu", "bf16", 2)
    assert (run.osc.port, run.web.port, run.web.open_browser, run.web.enabled) == (0, 0, False, True)
    assert (run.lan.enabled, run.lan.allow) == (True, ("10.0.0.0/8",))
    assert run.params == {
        "seed": 4,
        "mix": 0.25,
        "model": "pocket",
        "prompt": "gold, slow",
        "width": 512,
        "height": 384,
        "pause": True,
    }
    assert config("--no-web").web.enabled is False
    assert config("--size", "512").params == {"width": 512, "height": 512}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--osc-port", "70000"], "--osc-port: osc.port takes"),
        (["--set", "strength"], "takes NAME=VALUE"),
        (["--set", "strength=2"], "params.strength takes 0 to 1"),
        (["--set", "strenght=1"], "did you mean 'strength'?"),
        (["--size", "big"], "takes WIDTHxHEIGHT"),
        (["--size", "500"], "multiples of 64"),
        (["--model", "nope"], "no model 'nope'"),
        (["--source", "moive:a.mp4"], "did you mean 'movie'?"),
        (["--lan"], "--allow 192.168.1.0/24"),
        (["--config", "nope.toml"], "nope.toml: can't be read"),
        (["--souce", "scene"], "did you mean --source?"),
        (["--frames", "many"], "invalid int value"),
        (["bnech"], "did you mean bench?"),
        (["run", "--log-level", "LOUD"], "invalid choice"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_status_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as stop:  # argparse's own way out
        status = int(str(stop.code))
    out, err = capsys.readouterr()
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert not out


def test_debug_shows_the_traceback() -> None:
    done = livelatent("run", "--debug", "--config", "nope.toml")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "Traceback" not in livelatent("run", "--config", "nope.toml").stderr


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    done = livelatent(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: livelatent {command}" in done.stdout
    assert "--debug" in done.stdout


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys; from bridge.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    modules = set(done.stderr.split())
    assert "bridge.cli" in modules
    assert not modules & {"numpy", "msgspec", "zmq", "torch", *(module for module, _ in COMMANDS.values())}


def test_version() -> None:
    assert livelatent("--version").stdout == f"livelatent {__version__}\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "params"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 0


def test_keys_let_a_peer_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "client", "stage-left"]) == 0
    (path,) = (home() / "keys" / "export").iterdir()
    assert str(path) in capsys.readouterr().out
    assert path.stat().st_mode & 0o077 == 0
    assert main(["keys", "show"]) == 0
    assert "stage-left" in capsys.readouterr().out
    assert main(["keys", "client", "../x"]) == 2
    assert "letters, digits" in capsys.readouterr().err
