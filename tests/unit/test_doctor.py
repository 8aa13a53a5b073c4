"""The doctor: runs here for real, and says the right thing of machines that are not here."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import checkengine, checktorch, checkup
from bridge.checktorch import Card, Facts, Torch
from bridge.checkup import Check
from bridge.cli import main
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.doctor import lines
from bridge.opening import initial_params
from engines.paths import home
from engines.registry import Registry
from pipelines import choose
from pipelines.ladder import Rung, Verdict
from pipelines.spec import StreamSpec, structural

ROOT = Path(__file__).resolve().parents[2]
CPU = Torch(version="2.13.0+cpu", cpu="AVX2", threads=4)
CARD = Card(name="RTX", capability="8.9", free=20 << 30, total=24 << 30)


def by_name(facts: Facts | str, device: checktorch.Device = "auto") -> dict[str, Check]:
    return {check.name: check for check in checktorch.checks(facts, device)}


@pytest.fixture
def no_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checktorch, "nvidia_card", str)


def test_it_runs_here(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    assert status == (0 if report["ok"] else 1)
    assert report["ok"] == all(check["status"] != "bad" for check in checks.values())
    assert {
        "python",
        "torch",
        "packages",
        "codecs",
        "port osc",
        "port web",
        "model pocket",
        "sources",
        "sinks",
        "engine",
    } <= set(checks)
    assert checks["torch"]["status"] == "ok"
    assert checks["packages"] == {"name": "packages", "status": "ok", "text": "all there", "fix": ""}


def test_a_port_in_use_is_found_and_the_fix_names_the_flag() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
        udp.bind(("127.0.0.1", 0))
        ports = (udp.getsockname()[1], tcp.getsockname()[1])
        sinks = (f"zmq:tcp://127.0.0.1:{ports[1]}", "zmq:tcp://127.0.0.1:1?bind=0", "null")
        config = Config(osc=OscConfig(port=ports[0]), web=WebConfig(port=ports[1]), sinks=sinks)
        found = {check.name: check for check in checkup.ports(config)}
    assert [(name, check.status) for name, check in found.items()] == [
        ("port osc", "bad"),
        ("port web", "note"),
        ("port zmq sink", "bad"),
    ]
    assert "--osc-port" in found["port osc"].fix
    assert "next free port" in found["port web"].text
    assert "--sink zmq:tcp://127.0.0.1:N" in found["port zmq sink"].fix
    assert [check.status for check in checkup.ports(config)] == ["ok", "ok", "ok"]
    quiet = Config(source="zmq", sinks=(), web=WebConfig(enabled=False))
    assert [check.name for check in checkup.ports(quiet)] == ["port osc", "port zmq source"]


def test_a_torch_that_ends_its_process_does_not_end_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho 'libcuda is upset' >&2\nkill -SEGV $$\n")
    (tmp_path / "python").chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    said = by_name(checktorch.probe())
    assert list(said) == ["torch"]
    assert said["torch"].status == "bad"
    assert "libcuda is upset" in said["torch"].text
    assert "./start install" in said["torch"].fix


@pytest.mark.usefixtures("no_nvidia")
def test_a_machine_without_a_card_is_well_unless_one_is_asked_for() -> None:
    assert by_name(Facts(CPU))["graphics card"].status == "note"
    assert by_name(Facts(CPU), "cuda")["graphics card"].status == "bad"


def test_a_card_that_torch_is_not_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checktorch, "nvidia_card", lambda: "RTX 4090, 580.12")
    check = by_name(Facts(CPU))["graphics card"]
    assert check.status == "bad"
    assert "RTX 4090" in check.text
    assert "./start install" in check.fix
    blind = Torch(version="2.13.0", cuda="13.0")
    assert "driver" in by_name(Facts(blind))["graphics card"].fix


@pytest.mark.usefixtures("no_nvidia")
def test_a_card_that_can_not_run_a_kernel_is_told_from_one_that_can() -> None:
    well = Torch(version="2.13.0", cuda="13.0", cards=[CARD])
    assert by_name(Facts(well))["graphics card"].status == "ok"
    assert "20.0 of 24.0 GiB" in by_name(Facts(well))["graphics card"].text
    new = Torch(version="2.13.0", cuda="13.0", cards=[Card("RTX 60", "14.0", 1, 2, error="no kernel image")])
    assert by_name(Facts(new))["graphics card"].status == "bad"


@pytest.mark.usefixtures("no_nvidia")
def test_old_torch_broken_packages_and_clashing_opencvs() -> None:
    assert by_name(Facts(Torch(version="2.8.1")))["torch"].status == "bad"
    assert by_name(Facts(Torch(version="2.10.0")))["torch"].status == "ok"
    assert by_name(Facts(CPU, broken={"cv2": "ImportError: libGL.so.1"}))["packages"].status == "bad"
    assert "overwrite" in by_name(Facts(CPU, two_opencvs=True))["packages"].text
    assert "libx264" in by_name(Facts(CPU, missing_codecs={"encoders": ["libx264"]}))["codecs"].text
    assert by_name(Facts(Torch(error="OSError: no libtorch.so")))["torch"].text == "OSError: no libtorch.so"


def test_which_engine_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Config()
    spec = structural(StreamSpec(engine="auto"), initial_params(plain, Registry.open()))
    what = f"pocket at {spec.width}x{spec.height}"
    assert checkengine.engine(plain, graphics=True).text == "eager, on the graphics card"
    for version, words in (
        ("", "pip install livelatent[openvino]"),
        ("2026.4.1", "openvino (2026.4.1), then openvino int8 (2026.4.1) are measured"),
    ):
        monkeypatch.setattr(choose, "openvino", lambda version=version: version)
        check = checkengine.engine(plain, graphics=False)
        assert words in check.text + check.fix
        assert check.text.startswith("eager")
    choose.keep(spec, Verdict(Rung("openvino"), "openvino is 1.8 times as fast here"))
    found = checkengine.engine(plain, graphics=False)
    assert found.text == f"openvino for {what}: openvino is 1.8 times as fast here"
    asked = Config(worker=WorkerConfig(engine="openvino"))
    assert checkengine.engine(asked, graphics=False).status == "ok"
    monkeypatch.setattr(choose, "openvino", str)
    assert checkengine.engine(asked, graphics=False).status == "bad"


def test_which_engine_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladder as far as this card goes, what is missing for more of it, and what was found on just this card."""
    plain = Config()
    spec = structural(StreamSpec(engine="auto"), initial_params(plain, Registry.open()))
    facts = Facts(Torch(version="2.13.0", cards=[Card("RTX 4090", "8.9", 20 << 30, 24 << 30)]))
    card = checktorch.card(facts)
    assert card == choose.Card("RTX 4090", (8, 9))
    assert checktorch.card(Facts(CPU)) is None
    monkeypatch.setattr(choose, "tensorrt", str)
    check = checkengine.engine(plain, True, card)
    assert "eager fp16-accumulate is measured" in check.text
    assert "pip install livelatent[tensorrt]" in check.fix
    monkeypatch.setattr(choose, "tensorrt", lambda: "11.4.0")
    check = checkengine.engine(plain, True, card)
    assert "then tensorrt fp16 (11.4.0), then tensorrt fp8 (11.4.0) are measured" in check.text
    assert "fp8" not in checkengine.engine(plain, True, card._replace(capability=(8, 6))).text
    monkeypatch.setattr(choose, "uncompiled", lambda cuda: "there is no C++ compiler (g++)")
    assert "compiler is left out: there is no C++ compiler" in checkengine.engine(plain, True, card).text
    monkeypatch.setattr(choose, "uncompiled", lambda cuda: "")
    assert "eager inductor, then" in checkengine.engine(plain, True, card).text
    choose.keep(spec, Verdict(Rung("tensorrt", "fp8"), "tensorrt fp8 is 1.4 times as fast here"), card)
    assert checkengine.engine(plain, True, card).text.startswith("tensorrt fp8 for pocket at")
    assert "are measured" in checkengine.engine(plain, True, card._replace(name="RTX 5090")).text
    asked = Config(worker=WorkerConfig(engine="tensorrt"))
    assert checkengine.engine(asked, True, card).status == "ok"
    assert "there is no NVIDIA card" in checkengine.engine(asked, False, None).text
    monkeypatch.setattr(choose, "tensorrt", str)
    assert checkengine.engine(asked, True, card).fix == "`pip install livelatent[tensorrt]`"


def test_little_shared_memory_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert checkup.shared_memory(tmp_path / "none").status == "ok"
    monkeypatch.setattr(checkup, "SHM_BYTES", 1 << 60)
    check = checkup.shared_memory(tmp_path)
    assert check.status == "bad"
    assert "--shm-size" in check.fix


def test_a_model_that_is_not_here_is_bad_only_if_the_run_wants_it() -> None:
    wanted = {check.name: check for check in checkup.models(Config(params={"model": "sd-turbo"}))}
    assert wanted["model sd-turbo"].status == "bad"
    assert "livelatent models pull sd-turbo" in wanted["model sd-turbo"].text
    others = {check.name: check for check in checkup.models(Config())}
    assert others["more models"].status == "note"
    assert "sd-turbo" in others["more models"].text


def test_a_broken_registry_is_a_line() -> None:
    home().mkdir(parents=True, exist_ok=True)
    (home() / "models.toml").write_text("[models.x\n")
    (check,) = checkup.models(Config())
    assert check.status == "bad"
    assert "models.toml" in check.text


def test_drivers_that_can_not_be_imported_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checkup, "SOURCES", {"exotic": "no_such_package:Exotic", "scene": "bridge.sources.scene:SceneSource"}
    )
    monkeypatch.setattr(checkup, "EXTRAS", {"no_such_package": "exotic"})
    found = {check.name: check for check in checkup.drivers()}
    assert (found["source exotic"].status, found["source exotic"].fix) == ("note", "`pip install livelatent[exotic]`")
    assert found["sources"].text == "scene"


def test_cameras_are_listed_without_being_opened(tmp_path: Path) -> None:
    assert checkup.cameras(tmp_path).status == "note"
    for name in ("video0", "video2", "video-codec"):
        (tmp_path / name).touch()
    assert checkup.cameras(tmp_path).text == f"{tmp_path / 'video0'}, {tmp_path / 'video2'}"


def test_a_report_reads_as_lines() -> None:
    shown = lines([Check("a", "ok", "well"), Check("b", "bad", "ill", "mend it"), Check("c", "note", "less")])
    assert shown[0].startswith("✓ a ")
    assert shown[1].startswith("✗ b ")
    assert shown[1].endswith("ill → mend it")
    assert shown[2].startswith("· c ")


def test_it_prints_where_the_terminal_has_no_such_signs(tmp_path: Path) -> None:
    code = (
        "from bridge import checktorch, cli; checktorch.probe = lambda: 'not looked at';"
        "raise SystemExit(cli.main(['doctor']))"
    )
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, env=environ, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 1
    assert not done.stderr
    assert b"? torch           not looked at ? `./start install`" in done.stdout
