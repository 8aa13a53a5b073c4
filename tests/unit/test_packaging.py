"""What `pip install .` brings: the command, the data, and nothing that only the checkout needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bridge.version import __version__
from engines.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the pinned back end, from the checkout, without a network."""
    out = tmp_path_factory.mktemp("wheel")
    code = f"import os; os.chdir({str(ROOT)!r}); from hatchling.build import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=100)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_carries_code_configs_td_and_the_built_in_model(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    pocket = Registry.open().get("pocket").path.relative_to(ROOT)
    weights = [path for path in (ROOT / pocket).rglob("*") if path.is_file()]
    wanted = [
        *(f"livelatent_data/configs/{path.name}" for path in (ROOT / "configs").glob("*.toml")),
        *(
            f"livelatent_data/{path.relative_to(ROOT).as_posix()}"
            for path in (ROOT / "td").rglob("*.*")
            if path.suffix in (".py", ".json", ".md")
        ),
        *(path.relative_to(ROOT).as_posix() for path in weights),
        *(
            p.relative_to(ROOT).as_posix()
            for top in ("bridge", "pipelines", "engines")
            for p in (ROOT / top).rglob("*.py")
        ),
        *(
            p.relative_to(ROOT).as_posix()
            for p in (ROOT / "bridge" / "web").rglob("*")
            if p.suffix in (".html", ".js", ".css")
        ),
    ]
    assert not set(wanted) - names
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"bridge", "pipelines", "engines", "livelatent_data", f"livelatent-{__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".stamp", ".log"))]


def test_an_installed_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=100)
    environ = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    script = next((site / "bin").glob("livelatent*")) if os.name != "nt" else site / "bin" / "livelatent.exe"

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(sys.executable, script, "--version") == f"livelatent {__version__}\n"
    assert "/ll/strength" in run(sys.executable, script, "params")
    assert "pocket" in run(sys.executable, script, "models", "list")
    run(sys.executable, script, "td", "build", "--out", tmp_path / "td")
    assert (tmp_path / "td/livelatent.tox.toc").is_file()
    code = "import bridge; from bridge.load_config import read_file; print(bridge.__file__, read_file('movie').where)"
    places = run(sys.executable, "-c", code).split()
    assert all(Path(place).is_relative_to(site) for place in places)


def test_every_requirement_is_pinned() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
    extras = PROJECT["project"]["optional-dependencies"]
    needs = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["test"], *extras["openvino"], "uv"]
    assert not {Requirement(need).name for need in needs} - pins.keys()
    assert all("+" not in version for version in pins.values())  # torch's build differs from machine to machine


def test_start_bat_has_the_line_ends_that_cmd_needs() -> None:
    raw = (ROOT / "start.bat").read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n")
    assert b"eol=crlf" in (ROOT / ".gitattributes").read_bytes()


def test_start_scripts_are_executable_and_name_no_index() -> None:
    for name in ("start", "scripts/check", "scripts/pin", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK)
    for name in (
        "start",
        "start.bat",
        "scripts/start.py",
        "scripts/check",
        ".ci/run",
        "constraints.txt",
        "pyproject.toml",
    ):
        assert "://" not in (ROOT / name).read_text("utf-8")
